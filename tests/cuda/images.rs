//! Images on their way to the device: no batch is overwritten by a later one before its kernel has read it.

use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Cuda;

use crate::draws::pixels;

/// More batches than there are buffers for them, of several sizes, and nothing that waits for the device in between.
pub(crate) fn check(cuda: &Cuda) {
    let cpu = Cpu::<f32>::new();
    let batches: Vec<_> = [[2, 9, 11], [2, 9, 11], [3, 16, 5], [1, 7, 7], [2, 9, 11]]
        .into_iter()
        .zip(1..)
        .map(|(shape, seed)| (shape, pixels(seed, 3 * shape.iter().product::<usize>())))
        .collect();
    // The caller's bytes may change as soon as a call returns.
    let mut bytes = Vec::new();
    let normalized: Vec<_> = batches
        .iter()
        .map(|(shape, pixels)| {
            bytes.clone_from(pixels);
            let out = cuda.normalize(&bytes, *shape).unwrap();
            bytes.fill(0);
            out
        })
        .collect();
    for (number, ((shape, pixels), out)) in batches.iter().zip(&normalized).enumerate() {
        let reference = cpu.download(&cpu.normalize(pixels, *shape).unwrap()).unwrap();
        assert!(
            cuda.download(out).unwrap() == reference,
            "batch {number}, {shape:?}, has not its own images"
        );
    }
}
