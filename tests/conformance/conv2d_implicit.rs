//! `conv2d` of halves in one kernel on the tensor cores.

use simplenet::backend::cuda::{Cuda, CudaOptions, Precision};
use simplenet::backend::{Backend, ConvolutionWeights};
use simplenet::tensor::Tensor;

use crate::conv2d::{Kernel, case, weights};
use crate::cusim::Counters;
use crate::device::{simulated_implicit, simulator};
use crate::draws::Draws;
use crate::subject::Subject;

/// Kernel, stride and padding; input and output channels. Steps of the kernel lie within a tap where the input channels are
/// a multiple of 32 and go over several where not; K ends within a step where it is no multiple of 32. From 16 steps on, on
/// the eight multiprocessors of a simulated device, some are cut in parts.
const CASES: [(Kernel, &[(usize, usize)]); 5] = [
    ((7, 2, 3), &[(8, 20), (24, 16)]),
    ((3, 1, 1), &[(8, 3), (40, 33), (64, 72), (96, 8)]),
    ((3, 2, 1), &[(24, 65), (32, 64)]),
    ((1, 1, 0), &[(8, 20), (96, 33)]),
    ((1, 2, 0), &[(40, 7), (64, 128)]),
];

pub(crate) fn check<B: Backend>(subject: &Subject<B>) {
    let mut draws = Draws::new(22);
    for (kernel, channels) in CASES {
        for &(inputs, outputs) in channels {
            for (batch, h, w) in [(5, 1, 1), (5, 5, 7), (1, 13, 9)] {
                let weights = weights(&mut draws, kernel, inputs, outputs);
                case(subject, &mut draws, &weights, [batch, h, w, inputs]);
            }
        }
    }
    // Grids that fill a simulated device with the larger tiles, rows and outputs beyond the last of them.
    for outputs in [40, 136] {
        let weights = weights(&mut draws, (3, 1, 1), 32, outputs);
        case(subject, &mut draws, &weights, [2, 27, 23, 32]);
    }
    crate::conv2d_nan::check(subject);
}

/// A device that no other test of this program uses, so that its counters are this one's.
const OWN: usize = 3;

/// A convolution of that many rows and outputs; what the device did for it.
fn count([rows, inputs, outputs]: [usize; 3]) -> Option<Counters> {
    let simulator = simulator()?;
    let device = simulated_implicit(OWN)?;
    let convolution = device
        .convolution(&ConvolutionWeights {
            weight: Tensor::new([outputs, 1, 1, inputs], vec![0.5; outputs * inputs]),
            bias: vec![0.0; outputs],
            stride: 1,
            padding: 0,
        })
        .unwrap();
    let input = device.upload(&Tensor::new([1, rows, 1, inputs], vec![1.0; rows * inputs])).unwrap();
    let before = simulator.counters(OWN);
    let out = device.conv2d(&input, &convolution, None, false).unwrap();
    assert!(device.download(&out).unwrap().data().iter().all(|&value| value == 0.5 * inputs as f32));
    let after = simulator.counters(OWN);
    Some(Counters {
        launches: after.launches - before.launches,
        products: after.products - before.products,
        bank_conflicts: after.bank_conflicts - before.bank_conflicts,
        ..Counters::default()
    })
}

/// With each of the tiles, of which the larger have to fill eight multiprocessors, and with K in parts.
#[test]
fn shared_memory_is_read_without_bank_conflicts() {
    for (size, kernels) in [([1024, 64, 128], 1), ([1024, 64, 64], 1), ([64, 64, 64], 1), ([64, 640, 64], 2)]
    {
        let Some(counters) = count(size) else { return };
        // One more kernel rounds the input.
        assert_eq!((counters.launches, counters.products), (1 + kernels, 0), "{size:?}");
        let conflicts = counters.bank_conflicts;
        assert_eq!(conflicts, 0, "{size:?}: the number of bank conflicts, {conflicts}, exceeds none");
    }
    // What it cannot take goes the other way.
    let Some(counters) = count([64, 12, 8]) else { return };
    assert_eq!((counters.launches, counters.products), (1, 1));
}

/// No tensor core before 8.0 has the instruction.
#[test]
fn older_devices_multiply_patches() {
    const CAPABILITY: &str = "CUSIM_COMPUTE_CAPABILITY";
    let Some(simulator) = simulator() else { return };
    if std::env::var_os(CAPABILITY).is_none() {
        let test = "conv2d_implicit::older_devices_multiply_patches";
        let output = simulator.child(test).env(CAPABILITY, "7.5").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    if let Err(error) = Cuda::open(CudaOptions::new(OWN, Precision::F16)) {
        println!("skipped: {error}");
        return;
    }
    let counters = count([64, 64, 64]).unwrap();
    assert_eq!((counters.launches, counters.products), (1, 1));
}
