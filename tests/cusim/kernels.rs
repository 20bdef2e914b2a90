//! Correct kernels give the right answers, in every order of threads.

use cudarc::driver::sys::{CUdeviceptr, CUresult};
use half::f16;

use crate::cusim::sanitized;
use crate::world::{ORDERS, Shape, World, shape, values};

#[test]
fn elements_with_a_half_empty_last_block() {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let (x, y) = (values(1000, 1), values(1000, 2));
        let (x_gpu, y_gpu) = (world.upload(&x), world.upload(&y));
        world.launch("axpy_f32", shape(4, 256), &[&x_gpu, &y_gpu, &0.5f32, &1000u32]).unwrap();
        let expected: Vec<_> = x.iter().zip(&y).map(|(x, y)| 0.5f32.mul_add(*x, *y)).collect();
        assert_eq!(world.download(&y_gpu), expected);
    }
}

#[test]
fn halves_are_read_and_rounded_as_ieee_says() {
    let Some(world) = World::new(1) else { return };
    // Ties in both directions, subnormals, overflow, infinity.
    let mut x = values(500, 3);
    x.extend([
        1.0 + 1.0 / 2048.0,
        1.0 + 3.0 / 2048.0,
        6e-8,
        3e-8,
        2.9e-8,
        65519.9,
        65520.0,
        f32::INFINITY,
        -0.0,
    ]);
    let count = x.len();
    let x_gpu = world.upload(&x);
    let halves = world.buffer::<f16>(count);
    world.launch("to_half", shape(2, 256), &[&x_gpu, &halves, &(count as u32)]).unwrap();
    let expected: Vec<_> = x.iter().map(|&value| f16::from_f32(value)).collect();
    assert_eq!(world.download(&halves), expected);

    let out = world.upload(&vec![0.0f32; count]);
    world.launch("axpy_f16", shape(2, 256), &[&halves, &out, &1.0f32, &(count as u32)]).unwrap();
    let widened: Vec<_> = expected.iter().map(|half| half.to_f32()).collect();
    assert_eq!(world.download(&out), widened);
}

#[test]
fn packets_move_sixteen_bytes() {
    let Some(world) = World::new(2) else { return };
    let x = values(400, 4);
    let (x_gpu, out) = (world.upload(&x), world.buffer::<f32>(400));
    world.launch("double_packets", shape(1, 128), &[&x_gpu, &out, &100u32]).unwrap();
    assert_eq!(world.download(&out), x.iter().map(|value| 2.0 * value).collect::<Vec<_>>());
}

#[test]
fn a_struct_goes_by_value() {
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Affine {
        scale: f32,
        count: u32,
        shift: f64,
        out: CUdeviceptr,
    }
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let x = values(300, 5);
        let (x_gpu, out) = (world.upload(&x), world.upload(&[7.0f32; 300]));
        let how = Affine { scale: 3.0, count: 299, shift: 0.25, out: out.address };
        world.launch("affine", shape(2, 256), &[&x_gpu, &how]).unwrap();
        let mut expected: Vec<_> = x.iter().map(|value| (f64::from(3.0 * value) + 0.25) as f32).collect();
        expected[299] = 7.0;
        assert_eq!(world.download(&out), expected);
    }
}

#[test]
fn every_thread_of_a_grid_of_three_axes_runs_once() {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let threads = 7 * 5 * 3 * (4 * 3 * 2);
        let out = world.buffer::<u32>(threads);
        let shape = Shape { grid: (7, 5, 3), block: (4, 3, 2), shared_bytes: 0 };
        world.launch("number_threads", shape, &[&out]).unwrap();
        assert_eq!(world.download(&out), (0..threads as u32).collect::<Vec<_>>());
    }
}

#[test]
fn threads_share_integers() {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let x: Vec<u32> = (0..20_000).map(|i| i * 7919 % 104_729).collect();
        let (x_gpu, out) = (world.upload(&x), world.upload(&[0u32]));
        world.launch("largest", shape(79, 256), &[&x_gpu, &out, &20_000u32]).unwrap();
        assert_eq!(world.download(&out), [*x.iter().max().unwrap()]);
    }
}

#[test]
fn reductions_through_shuffles_and_shared_memory() {
    // Large enough for several workers; the sums of each block have one order.
    let x = values(100_000, 6);
    let mut answers = Vec::new();
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let (x_gpu, sums) = (world.upload(&x), world.buffer::<f32>(391));
        world.launch("block_sums", shape(391, 256), &[&x_gpu, &sums, &100_000u32]).unwrap();
        answers.push(world.download(&sums));
    }
    for (sum, part) in answers[0].iter().zip(x.chunks(256)) {
        let expected: f64 = part.iter().map(|&value| f64::from(value)).sum();
        assert!((f64::from(*sum) - expected).abs() < 1e-5, "{sum} instead of {expected}");
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "the order of threads shows");
}

#[test]
fn barriers_between_tiles() {
    let (m, n, k) = (50, 70, 37);
    let (a, b) = (values(m * k, 7), values(k * n, 8));
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let (a_gpu, b_gpu, c) = (world.upload(&a), world.upload(&b), world.buffer::<f32>(m * n));
        let shape = Shape { grid: (5, 4, 1), block: (16, 16, 1), shared_bytes: 0 };
        world
            .launch("tiled_product", shape, &[&a_gpu, &b_gpu, &c, &(m as u32), &(n as u32), &(k as u32)])
            .unwrap();
        for (i, value) in world.download(&c).into_iter().enumerate() {
            let sum = (0..k).fold(0.0f32, |sum, p| a[i / n * k + p].mul_add(b[p * n + i % n], sum));
            assert_eq!(value, sum);
        }
    }
}

#[test]
fn shuffles_take_the_right_lane() {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let out = world.buffer::<u32>(160);
        world.launch("shuffles", shape(1, 32), &[&out]).unwrap();
        let out = world.download(&out);
        for lane in 0..32 {
            let at = |row: usize| out[row * 32 + lane as usize];
            assert_eq!(at(0), if lane + 3 < 32 { lane + 3 } else { lane });
            assert_eq!(at(1), if lane >= 3 { lane - 3 } else { lane });
            assert_eq!(at(2), lane ^ 5);
            assert_eq!(at(3), 7);
            assert_eq!(at(4), lane / 8 * 8 + 2);
        }
    }
}

#[test]
fn dynamic_shared_memory_has_its_own_limit() {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let x = values(2048, 9);
        let (x_gpu, out) = (world.upload(&x), world.buffer::<f32>(2048));
        let shape = Shape { grid: (2, 1, 1), block: (1024, 1, 1), shared_bytes: 4096 };
        world.launch("reverse_blocks", shape, &[&x_gpu, &out]).unwrap();
        let expected: Vec<_> = x.chunks(1024).flat_map(|block| block.iter().rev().copied()).collect();
        assert_eq!(world.download(&out), expected);
    }
}

#[test]
fn shared_memory_starts_undefined_in_every_block() {
    for ordinal in ORDERS {
        let Some(world) = World::new(ordinal) else { return };
        let out = world.buffer::<f32>(2 * 32 * 300);
        let shape = Shape { grid: (300, 1, 1), block: (32, 1, 1), shared_bytes: 128 };
        world.launch("read_fresh_shared", shape, &[&out]).unwrap();
        let read = world.download(&out);
        // Static arrays come first in each pair; the sanitized build leaves those alone.
        let defined = read.iter().enumerate().filter(|(_, value)| !value.is_nan());
        let expected = if sanitized() { defined.clone().filter(|(i, _)| i % 2 == 0).count() } else { 0 };
        assert_eq!(defined.count(), expected);
    }
}

#[test]
fn device_memory_starts_undefined() {
    let Some(world) = World::new(0) else { return };
    let out = world.buffer::<f32>(100);
    assert!(world.download(&out).iter().all(|value| value.is_nan()));
}

#[test]
fn an_unknown_kernel_is_not_found() {
    let Some(world) = World::new(0) else { return };
    assert_eq!(world.kernel("no_such_kernel").unwrap_err().0, CUresult::CUDA_ERROR_NOT_FOUND);
}
