//! `project`: the linear map of a deployed head, as a 1×1 convolution whose weight is laid out once.

use super::conv2d::{self, Arithmetic, CpuConvolution};
use super::memory::{CpuTensor, Pool};
use super::panels::Residual;
use crate::tensor::Scalar;
use std::sync::Arc;

/// `x·Wᵀ + b`: `[R, I], [O, I], [O] → [R, O]`.
pub(super) fn project<T: Scalar>(
    pool: &Arc<Pool<T>>,
    input: &CpuTensor<T>,
    weight: &CpuTensor<T>,
    bias: Option<&CpuTensor<T>>,
    arithmetic: Arithmetic,
) -> CpuTensor<T> {
    let ([rows, inputs], [outputs, _]) = (input.axes(), weight.axes());
    let convolution = weight.laid_out(|| CpuConvolution::pointwise(weight.data(), outputs, arithmetic));
    let zeros;
    let bias = match bias {
        Some(bias) => bias.data(),
        None => {
            zeros = vec![T::ZERO; outputs];
            &zeros
        }
    };
    let mut out = pool.tensor(&[rows, outputs]);
    conv2d::run(
        pool,
        (input.data(), [1, rows, 1, inputs]),
        (convolution, bias),
        Residual::None,
        false,
        out.data_mut(),
    );
    out
}

#[cfg(test)]
mod tests {
    use crate::backend::Backend;
    use crate::backend::cpu::{Convolutions, Cpu};
    use crate::tensor::{Tensor, relative_error};

    fn numbers(shape: [usize; 2], factor: usize) -> Tensor<f32> {
        let len = shape.iter().product();
        Tensor::new(shape, (0..len).map(|i| (i * factor % 17) as f32 * 0.1 - 0.7).collect())
    }

    /// Also after the weight changed: what was laid out of the old one must be gone.
    #[test]
    fn a_projection_is_the_linear_map_of_the_present_weight() {
        let (cpu, exact) = (Cpu::<f32>::with(Convolutions::Fast), Cpu::<f32>::new());
        let bf16 = Cpu::<f32>::bf16(Convolutions::Fast);
        let input = numbers([45, 50], 7);
        for bias in [None, Some(numbers([1, 70], 3).reshape([70]))] {
            let run = |cpu: &Cpu<f32>, projected: bool| -> Vec<f32> {
                let mut weight = cpu.upload(&numbers([70, 50], 5)).unwrap();
                let input = cpu.upload(&input).unwrap();
                let bias = bias.as_ref().map(|bias| cpu.upload(bias).unwrap());
                let mut out = Vec::new();
                for factor in [1.0, 2.0] {
                    weight.data_mut().iter_mut().for_each(|value| *value *= factor);
                    let product = if projected {
                        cpu.project(&input, &weight, bias.as_ref())
                    } else {
                        cpu.linear(&input, &weight, bias.as_ref())
                    };
                    out.extend_from_slice(product.unwrap().data());
                }
                out
            };
            let expected: Vec<f64> = run(&exact, false).into_iter().map(f64::from).collect();
            assert!(relative_error(&run(&exact, true), &expected) < 1e-6);
            let vectors = cpu.clone().without_tiles();
            assert!(relative_error(&run(&vectors, true), &expected) < 1e-6);
            // By tiles: of each product terms of 2⁻¹⁶ at most are left out.
            assert!(relative_error(&run(&cpu, true), &expected) < 1e-5);
            match &bf16 {
                // Both operands are rounded by 2⁻⁸ at most, and sums of 50 products of either sign.
                Some(bf16) => assert!(relative_error(&run(bf16, true), &expected) < 8e-3),
                None => println!("no AVX512-BF16 here"),
            }
        }
    }

    /// Several callers on a pool's threads, before the weight is laid out: whoever waits for a part of that may take up
    /// another's whole call.
    #[test]
    fn callers_share_a_weight_that_is_not_laid_out_yet() {
        let cpu = Cpu::<f32>::with(Convolutions::Fast);
        let input = cpu.upload(&numbers([40, 256], 7)).unwrap();
        let expected = cpu.project(&input, &cpu.upload(&numbers([512, 256], 5)).unwrap(), None).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for _ in 0..50 {
            let weight = cpu.upload(&numbers([512, 256], 5)).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let out = pool.install(|| cpu.project(&input, &weight, None)).unwrap();
                        assert_eq!(out.data(), expected.data());
                    });
                }
            });
        }
    }
}
