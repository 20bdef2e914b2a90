//! The stored results of PyTorch, and comparison with them.

use crate::draws::positions;
use half::f16;
use safetensors::{Dtype, SafeTensors};
use simplenet::tensor::{Scalar, Tensor, relative_error};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of the crate, as cargo says now or said when this was compiled: the test programs also run on machines that
/// did not build them.
pub(crate) fn checkout() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// One file of `reference/`, widened to `f64`.
pub(crate) struct Reference(BTreeMap<String, Tensor<f64>>);

impl Reference {
    /// Reads `reference/NAME.safetensors`.
    pub(crate) fn load(name: &str) -> Self {
        Self::read(&checkout().join(format!("tests/parity/reference/{name}.safetensors")))
    }

    /// Reads any safetensors file of floating-point numbers.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let widen = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let bytes = view.data();
            let data: Vec<f64> = match view.dtype() {
                Dtype::F64 => bytemuck::pod_collect_to_vec::<u8, f64>(bytes),
                Dtype::F32 => {
                    bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect()
                }
                Dtype::F16 => {
                    bytemuck::pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f64::from).collect()
                }
                other => panic!("{name} is {other}"),
            };
            (name, Tensor::new(view.shape(), data))
        };
        Self(file.tensors().into_iter().map(widen).collect())
    }

    /// A tensor by its name.
    pub(crate) fn get(&self, name: &str) -> &Tensor<f64> {
        self.0.get(name).unwrap_or_else(|| panic!("the reference has no {name}; run generate.py"))
    }

    /// The tensors whose names start with `prefix`, without it.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor<f64>)> {
        self.0.iter().filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    /// The error of a whole tensor.
    pub(crate) fn error<T: Scalar>(&self, name: &str, out: &Tensor<T>) -> f64 {
        let reference = self.get(name);
        assert_eq!(out.shape(), reference.shape(), "{name}");
        relative_error(out.data(), reference.data())
    }

    /// The error of feature maps `[N, H, W, C]` of which a sample and norms are stored: the largest among every
    /// channel at the sampled positions of the last image, the norms of the channels, and the norms of the positions.
    pub(crate) fn sampled_error<T: Scalar>(&self, name: &str, maps: &Tensor<T>) -> f64 {
        let &[n, h, w, channels] = maps.shape() else { panic!("{name} has four axes") };
        let row = |position: usize| &maps.data()[position * channels..][..channels];
        let square = |x: &T| x.to_f64() * x.to_f64();
        let sample: Vec<T> =
            positions(h, w).into_iter().flat_map(|(y, x)| row(((n - 1) * h + y) * w + x).to_vec()).collect();
        let mut channel_norms = vec![0.0; channels];
        let mut position_norms = Vec::with_capacity(n * h * w);
        for position in 0..n * h * w {
            position_norms.push(row(position).iter().map(square).sum::<f64>().sqrt());
            channel_norms.iter_mut().zip(row(position)).for_each(|(sum, x)| *sum += square(x));
        }
        channel_norms.iter_mut().for_each(|sum| *sum = sum.sqrt());
        let errors = [
            self.error(&format!("{name}/sample"), &Tensor::new([sample.len() / channels, channels], sample)),
            self.error(&format!("{name}/channel_norms"), &Tensor::new([channels], channel_norms)),
            self.error(&format!("{name}/position_norms"), &Tensor::new([n, h, w], position_norms)),
        ];
        errors.into_iter().fold(0.0, worse)
    }
}

/// The larger error, where NaN is worse than any number.
pub(crate) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b <= a { a } else { b }
}
