//! Several devices' worth of work at once: threads that share a device, and devices that share a GPU.

use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Cuda;
use simplenet::tensor::{Tensor, relative_error};

use crate::draws::normals;

const THREADS: u64 = 4;
const ROUNDS: u64 = 6;
const SLOPE: f64 = 0.2;

/// A product, its activation and a score: kernels and cuBLASLt in turn, through buffers that go back to the device.
fn scores<B: Backend<Scalar = f32>>(backend: &B, seed: u64) -> Tensor<f32> {
    let upload = |seed, shape: &[usize]| backend.upload(&normals(seed, shape, 0.2, 1.0)).unwrap();
    // Every seed has sizes of its own and shares some with others.
    let (rows, channels) = (40 + 7 * (seed as usize % 3), 24);
    let (x, weight) = (upload(seed, &[rows, channels]), upload(seed + 100, &[33, channels]));
    let hidden = backend.linear(&x, &weight, None).unwrap();
    let activated = backend.leaky_relu(&hidden, SLOPE).unwrap();
    backend.download(&backend.score(&activated, &upload(seed + 200, &[1, 33])).unwrap()).unwrap()
}

/// Two devices that were opened on the same GPU, each used by several threads: every thread gets its own results.
pub(crate) fn check(first: &Cuda, second: &Cuda) {
    std::thread::scope(|scope| {
        for seed in 0..THREADS {
            let cuda = if seed % 2 == 0 { first } else { second };
            // Both clones and references of a device may be what a thread holds.
            let clone = cuda.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let backend = if round % 2 == 0 { cuda } else { &clone };
                    let seed = seed + THREADS * round;
                    let (out, reference) = (scores(backend, seed), scores(&Cpu::<f32>::new(), seed));
                    let error = relative_error(out.data(), reference.data());
                    assert!(error <= 1e-6, "thread and round {seed}: {error:.2e}");
                }
            });
        }
    });
}
