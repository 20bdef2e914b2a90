//! The tensor cores' instructions compute what PTX ISA documents, and asynchronous copies land no earlier than they must.

use half::f16;

use crate::world::{ORDERS, Shape, World, shape, values};

/// Halves without a pattern.
fn halves(count: usize, seed: u64) -> Vec<f16> {
    values(count, seed).into_iter().map(f16::from_f32).collect()
}

#[test]
fn a_warp_multiplies_16_by_16_by_8() {
    let mut a = halves(16 * 16, 1);
    let (b, c) = (halves(8 * 16, 2), values(16 * 8, 3));
    // A subnormal, the largest number, an infinity, and what is no number.
    a[0] = f16::from_bits(0x0003);
    a[1] = f16::MAX;
    a[5 * 16 + 3] = f16::INFINITY;
    a[9 * 16 + 12] = f16::NAN;
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let (a_gpu, b_gpu, c_gpu) = (world.upload(&a), world.upload(&b), world.upload(&c));
        let out = world.buffer::<f32>(16 * 8);
        world.launch("product_of_a_warp", shape(1, 32), &[&a_gpu, &b_gpu, &c_gpu, &out]).unwrap();
        for (i, value) in world.download(&out).into_iter().enumerate() {
            let (row, column) = (i / 8, i % 8);
            let product = |k: usize| a[row * 16 + k].to_f32() * b[column * 16 + k].to_f32();
            let expected = (0..16).fold(c[i], |sum, k| sum + product(k));
            assert!(
                value.to_bits() == expected.to_bits() || (value.is_nan() && expected.is_nan()),
                "({row}, {column}): {value} instead of {expected}"
            );
            assert_eq!((value.is_nan(), value.is_infinite()), (row == 9, row == 5));
        }
    }
}

#[test]
fn a_warp_loads_four_matrices() {
    let x = halves(32 * 8, 4);
    // Rows of sixteen bytes fill the banks eight at a time; 128 bytes apart, all of a matrix share one bank.
    for (pitch, conflicts) in [(8, 0), (24, 0), (16, 4), (64, 4 * 7)] {
        for ordinal in ORDERS {
            let Some(world) = World::alone(ordinal) else { return };
            let (x_gpu, out) = (world.upload(&x), world.buffer::<u32>(4 * 32));
            let before = world.simulator.counters(ordinal).bank_conflicts;
            let shape = Shape { shared_bytes: 32 * pitch * 2, ..shape(1, 32) };
            world.launch("matrices_of_a_warp", shape, &[&x_gpu, &out, &pitch]).unwrap();
            for (i, value) in world.download(&out).into_iter().enumerate() {
                let (matrix, lane) = (i / 32, i % 32);
                let at = (8 * matrix + lane / 4) * 8 + 2 * (lane % 4);
                let expected = [x[at], x[at + 1]].map(|half| u32::from(half.to_bits()));
                assert_eq!(value, expected[0] | expected[1] << 16, "matrix {matrix}, lane {lane}");
            }
            assert_eq!(world.simulator.counters(ordinal).bank_conflicts - before, conflicts, "pitch {pitch}");
        }
    }
}

#[test]
fn copies_land_at_the_wait_for_their_group() {
    let x = halves(40 * 8, 5);
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let (x_gpu, out) = (world.upload(&x), world.buffer::<f16>(40 * 9));
        let shape = Shape { shared_bytes: 40 * 48, ..shape(1, 40) };
        world.launch("copies_in_groups", shape, &[&x_gpu, &out]).unwrap();
        for (thread, seen) in world.download(&out).chunks(9).enumerate() {
            let copied = x[thread * 8];
            let [at_once, one_group, both] = [&seen[..3], &seen[3..6], &seen[6..]];
            assert!(at_once.iter().all(|value| value.is_nan()), "{at_once:?}");
            assert!(
                one_group[0] == copied && one_group[1].is_nan() && one_group[2].is_nan(),
                "{one_group:?}"
            );
            assert!(both[0] == copied && both[1] == f16::ZERO && both[2].is_nan(), "{both:?}");
        }
    }
}
