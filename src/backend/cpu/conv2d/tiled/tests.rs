use super::super::{CpuConvolution, Weights, patch, run};
use super::TiledWeights;
use super::cut::{Cut, RESIDENT_BYTES};
use super::layout::Layout;
use crate::backend::cpu::amx::{self, ROWS, Unit, Written};
use crate::backend::cpu::conv2d::im2col::Geometry;
use crate::backend::cpu::instructions::Instructions;
use crate::backend::cpu::memory::Pool;
use crate::backend::cpu::panels::Residual;
use crate::backend::cpu::{Convolutions, Cpu};
use crate::backend::{Backend, ConvolutionGeometry, ConvolutionWeights};
use crate::random::philox::{Philox, Stream};
use crate::tensor::{Scalar, Tensor, relative_error};

/// Numbers that two bfloat16 numbers hold exactly; one alone does if they are `round`.
fn numbers(len: usize, seed: u64, round: bool) -> Vec<f32> {
    let philox = Philox::new(seed, Stream::Initialisation, 0);
    let exact = |value: f64| half::bf16::from_f64(value).to_f64();
    let numbers = (0..len as u64).map(|i| philox.uniform(i) - 0.5).map(|value| match exact(value) {
        high if round => high as f32,
        high => (high + exact(value - high)) as f32,
    });
    numbers.collect()
}

/// One convolution by tiles, over outputs that were poisoned; a residual in place too.
fn tiled<T: Scalar>(
    tiles: (Unit, Written),
    weights: &ConvolutionWeights,
    input: &Tensor<f32>,
    residual: Option<&Tensor<f32>>,
) -> Vec<T> {
    let geometry = weights.geometry();
    let convert = |values: &[f32]| values.iter().map(|&value| T::from_f32(value)).collect::<Vec<T>>();
    let (values, patch) = (weights.weight.data(), patch(&geometry));
    let element = |k: usize, output: usize| T::from_f32(values[output * patch + k]);
    let convolution = CpuConvolution {
        geometry,
        bias: convert(&weights.bias),
        weights: Weights::Tiled(TiledWeights::new(&geometry, tiles, element)),
        instructions: Instructions::detect(),
    };
    let &[n, h, w, inputs] = input.shape() else { panic!("an image has four axes") };
    let (out_h, out_w) = geometry.output_size(h, w);
    let mut out = vec![T::from_f64(f64::NAN); n * out_h * out_w * geometry.outputs];
    let residual = residual.map(|residual| convert(residual.data()));
    let operands = (&convolution, convolution.bias.as_slice());
    let data = convert(input.data());
    let input = (data.as_slice(), [n, h, w, inputs]);
    let added = residual.as_deref().map_or(Residual::None, Residual::Of);
    run(&Pool::new(), input, operands, added, residual.is_some(), &mut out);
    if let Some(mut onto) = residual {
        run(&Pool::new(), input, operands, Residual::InPlace, true, &mut onto);
        let same = |(a, b): (&T, &T)| a == b || a.to_f64().is_nan() && b.to_f64().is_nan();
        assert!(onto.iter().zip(&out).all(same), "a residual in place is the same residual");
    }
    out
}

/// Every way to lay out rows, odd sizes, one image and five, with a residual and without: against the exact convolution
/// in `f64` of the same numbers. Of split numbers one operand at a time has low parts, so that no product of two is left out.
#[test]
fn convolutions_equal_the_exact_ones() {
    // Kernel, stride, padding, inputs, outputs, height, width.
    let cases = [
        (1, 1, 0, 64, 40, 9, 7),
        (1, 1, 0, 20, 33, 5, 11),
        (1, 2, 0, 32, 64, 13, 10),
        (3, 1, 1, 32, 32, 14, 14),
        (3, 1, 1, 96, 70, 7, 29),
        (3, 2, 1, 64, 32, 15, 12),
        (3, 1, 1, 12, 20, 6, 9),
        (5, 1, 2, 32, 31, 6, 5),
        (3, 3, 0, 32, 8, 11, 9),
        (7, 2, 3, 3, 64, 31, 38),
        (3, 2, 1, 128, 256, 14, 13),
    ];
    let operands =
        [(Written::Rounded, [true, true]), (Written::Split, [true, false]), (Written::Split, [false, true])];
    for (index, (kernel, stride, padding, inputs, outputs, h, w)) in cases.into_iter().enumerate() {
        for (n, (written, [round_weights, round_inputs])) in
            [1, 5].into_iter().flat_map(|n| operands.map(|operands| (n, operands)))
        {
            let seed = index as u64 * 10;
            let weights = ConvolutionWeights {
                weight: Tensor::new(
                    [outputs, kernel, kernel, inputs],
                    numbers(outputs * kernel * kernel * inputs, seed, round_weights),
                ),
                bias: numbers(outputs, seed + 1, true),
                stride,
                padding,
            };
            let input = Tensor::new([n, h, w, inputs], numbers(n * h * w * inputs, seed + 2, round_inputs));
            let (out_h, out_w) = weights.geometry().output_size(h, w);
            let shape = [n, out_h, out_w, outputs];
            let residual = Tensor::new(shape, numbers(shape.iter().product(), seed + 3, true));

            let exact = Cpu::<f64>::with(Convolutions::Exact);
            let wide = |tensor: &Tensor<f32>| {
                let data = tensor.data().iter().map(|&value| f64::from(value)).collect();
                exact.upload(&Tensor::new(tensor.shape().to_vec(), data)).unwrap()
            };
            let convolution = exact.convolution(&weights).unwrap();
            for residual in [None, Some(&residual)] {
                let wide_residual = residual.map(wide);
                let expected = exact
                    .conv2d(&wide(&input), &convolution, wide_residual.as_ref(), residual.is_some())
                    .unwrap();
                let expected = exact.download(&expected).unwrap();
                let name =
                    format!("{kernel}×{kernel}/{stride}, {inputs} → {outputs}, {n} images, {written:?}");
                let out: Vec<f64> = tiled((Unit::Portable, written), &weights, &input, residual);
                let error = relative_error(&out, expected.data());
                assert!(error < 1e-14, "{name}, f64: {error:.1e}");
                // Products are exact in f32; sums of hundreds of either sign are rounded by 2⁻²⁴.
                for unit in [Some(Unit::Portable), amx::detect()].into_iter().flatten() {
                    let out: Vec<f32> = tiled((unit, written), &weights, &input, residual);
                    let error = relative_error(&out, expected.data());
                    assert!(error < 1e-6, "{name}, {unit:?}: {error:.1e}");
                }
            }
        }
    }
}

/// The last case above writes rows of all tasks at once, in planes.
#[test]
fn few_lines_and_many_panels_share_their_rows() {
    let geometry = ConvolutionGeometry { outputs: 256, kernel: (3, 3), inputs: 128, stride: 2, padding: 1 };
    let weights = TiledWeights::<f32>::new(&geometry, (Unit::Portable, Written::Split), |_, _| 1.0);
    let g = Geometry {
        h: 14,
        w: 13,
        inputs: 128,
        kernel_h: 3,
        kernel_w: 3,
        out_h: 7,
        out_w: 7,
        stride: 2,
        padding: 1,
    };
    let layout = |images: usize| Layout::new(&g, images * 49, &weights);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let [one, five] = pool.install(|| [1, 5].map(layout));
    assert!(one.shared && five.shared, "{one:?}, {five:?}");
    assert_eq!((one.planes.len(), five.images), (4, 5));
}

/// The number of threads decides which rows are multiplied together, and who writes them; a sum's order it does not.
#[test]
fn threads_change_no_bit() {
    for (kernel, stride, inputs, outputs, size) in
        [(1, 1, 64, 256, 41), (3, 1, 96, 160, 23), (3, 2, 64, 96, 37)]
    {
        let weights = ConvolutionWeights {
            weight: Tensor::new(
                [outputs, kernel, kernel, inputs],
                numbers(outputs * kernel * kernel * inputs, 1, false),
            ),
            bias: numbers(outputs, 2, false),
            stride,
            padding: kernel / 2,
        };
        let input = Tensor::new([2, size, size, inputs], numbers(2 * size * size * inputs, 3, false));
        let units = [Some(Unit::Portable), amx::detect()].into_iter().flatten();
        for tiles in units.flat_map(|unit| [(unit, Written::Rounded), (unit, Written::Split)]) {
            let outputs = [1, 3, 16].map(|threads| -> Vec<f32> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| tiled(tiles, &weights, &input, None))
            });
            assert!(
                outputs[0] == outputs[1] && outputs[0] == outputs[2],
                "{kernel}×{kernel}/{stride}: {tiles:?}"
            );
        }
    }
}

/// An input that is no number must not come out as one, and must stay where it is seen.
#[test]
fn a_nan_shows_where_its_pixel_is_seen() {
    let weights = ConvolutionWeights {
        weight: Tensor::full([32, 3, 3, 32], 1.0),
        bias: vec![0.0; 32],
        stride: 1,
        padding: 1,
    };
    let mut input = Tensor::full([1, 6, 6, 32], 1.0);
    input.data_mut()[(2 * 6 + 5) * 32 + 7] = f32::NAN;
    let units = [Some(Unit::Portable), amx::detect()].into_iter().flatten();
    for unit in units.flat_map(|unit| [(unit, Written::Rounded), (unit, Written::Split)]) {
        let residual = Tensor::full([1, 6, 6, 32], 0.0);
        let out: Vec<f32> = tiled(unit, &weights, &input, Some(&residual));
        for (pixel, values) in out.chunks_exact(32).enumerate() {
            let seen = (1..=3).contains(&(pixel / 6)) && pixel % 6 >= 4;
            assert_eq!(values.iter().all(|value| value.is_nan()), seen, "{unit:?}, pixel {pixel}");
            assert_eq!(values.iter().any(|value| value.is_nan()), seen, "{unit:?}, pixel {pixel}");
        }
    }
}

/// However many threads there are, tasks cover every line and panel, and their inputs fit.
#[test]
fn every_cut_covers_all_lines_and_panels() {
    for (lines, panels, multiple, images) in
        [(14, 16, 1, 1), (56, 4, 1, 8), (196, 32, ROWS, 1), (3, 1, ROWS, 1)]
    {
        for threads in [1, 2, 16, 128] {
            let cut = Cut {
                images,
                lines,
                more_lines: 2,
                line_bytes: 17 << 10,
                line_products: 1 << 20,
                panels,
                weight_bytes: panels * 300_000,
                multiple,
            };
            let (task_lines, task_panels) = cut.best(threads);
            assert!((1..=panels).contains(&task_panels));
            assert!(task_lines >= 1 && task_lines.is_multiple_of(multiple));
            assert!(
                task_lines == multiple
                    || (task_lines + 2) * (17 << 10) <= RESIDENT_BYTES.max(ROWS * (17 << 10))
            );
        }
    }
}
