//! Images on their way to the device: no batch is overwritten by a later one before its kernel has read it.

use simplenet::backend::Backend;
use simplenet::backend::cpu::Cpu;
use simplenet::backend::cuda::Cuda;

use crate::draws::pixels;

/// More batches than there are buffers for them, and nothing that waits for the device in between: of one size, where
/// every buffer is used again, and of several, where some are replaced.
pub(crate) fn check(cuda: &Cuda) {
    check_batches(cuda, [[2, 9, 11]; 5]);
    check_batches(cuda, [[2, 9, 11], [1, 7, 7], [3, 16, 5], [1, 7, 7], [2, 9, 11]]);
}

fn check_batches(cuda: &Cuda, shapes: [[usize; 3]; 5]) {
    let cpu = Cpu::<f32>::new();
    let batches = shapes.map(|shape| {
        let len = 3 * shape.iter().product::<usize>();
        (shape, len)
    });
    // The caller's bytes may change as soon as a call returns.
    let mut bytes = Vec::new();
    let mut normalized = Vec::new();
    for (seed, (shape, len)) in (1..).zip(batches) {
        bytes.clone_from(&pixels(seed, len));
        normalized.push(cuda.normalize(&cuda.upload_images(&bytes, shape).unwrap()).unwrap());
        bytes.fill(0);
    }
    for ((seed, (shape, len)), out) in (1..).zip(batches).zip(&normalized) {
        let reference = {
            let images = cpu.upload_images(&pixels(seed, len), shape).unwrap();
            cpu.download(&cpu.normalize(&images).unwrap()).unwrap()
        };
        let same = cuda.download(out).unwrap() == reference;
        assert!(same, "batch {seed} of {shapes:?} has not its own images");
    }
}
