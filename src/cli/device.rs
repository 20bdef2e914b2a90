//! Opening the device a command computes on.

use super::Environment;
use super::args::DeviceArgs;
use super::console::Console;
use crate::backend::Backend;
use crate::backend::cpu::{Bf16Unit, Cpu};
use crate::backend::cuda::{Cuda, CudaError, CudaOptions, Precision};
use anyhow::{Context, bail};

/// The device of a command. Commands are generic over it: they match once and run the same code on either.
#[derive(Debug)]
pub(super) enum Device {
    /// The CPU, and why it is not a GPU if one was looked for.
    Cpu(Cpu<f32>, Option<String>),
    /// A GPU.
    Cuda(Cuda),
}

impl Device {
    /// The device in words, with the reason for a fallback: what a run records.
    pub(super) fn description(&self) -> String {
        match self {
            Device::Cpu(cpu, None) => cpu.description(),
            Device::Cpu(cpu, Some(reason)) => format!("{} ({reason})", cpu.description()),
            Device::Cuda(cuda) => cuda.description(),
        }
    }
}

/// `--device` as it was meant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Choice {
    Auto,
    Cpu,
    Cuda(usize),
}

/// Opens the device of `--device` with the arithmetic of `--precision` and `--conv` and `--threads` threads.
///
/// # Errors
/// [`Environment`] or [`CudaError`] for a device or an arithmetic that is not there: never a silent other one. Only
/// `auto` takes the CPU where no GPU answers, and says why.
pub(super) fn open(args: &DeviceArgs, console: &Console) -> anyhow::Result<Device> {
    let choice = parse_choice(&args.device)?;
    let precision = Arithmetic::parse(&args.precision, choice)?;
    if let Some(threads) = args.threads {
        if threads == 0 {
            bail!("--threads 0: at least one thread must work");
        }
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    console.detail(format_args!("{} threads", rayon::current_num_threads()));
    let convolutions = args.conv.into();
    let precision = match precision {
        Arithmetic::Bf16 => {
            let cpu = Cpu::bf16(convolutions).ok_or_else(|| {
                Environment(
                    "--precision bf16: this processor has no AVX512-BF16 instructions; use --precision f32"
                        .into(),
                )
            })?;
            let reason = (choice == Choice::Auto).then(|| "bf16 is an arithmetic of the CPU's".to_owned());
            if let Some(reason) = &reason {
                console.say(format_args!("no GPU is used ({reason}): computing on the CPU"));
            }
            if Cpu::<f32>::bf16_unit() == Some(Bf16Unit::SlowAvx512) {
                console.warn(
                    "--precision bf16: without AMX this processor multiplies bf16 numbers more slowly than f32 ones; \
                     --precision f32 is faster and more exact",
                );
            }
            return Ok(Device::Cpu(cpu, reason));
        }
        Arithmetic::Other(precision) => precision,
    };
    let cpu = || Cpu::with(convolutions);
    let cuda = |ordinal| {
        let cuda = Cuda::open(CudaOptions::new(ordinal, precision))?;
        if let Some(refusal) = cuda.upload_refusal() {
            console.warn(format_args!(
                "write-combined memory was refused ({refusal}): uploads go through ordinary page-locked memory, which costs \
                 the host more"
            ));
        }
        Ok::<_, CudaError>(cuda)
    };
    match choice {
        Choice::Cpu => Ok(Device::Cpu(cpu(), None)),
        Choice::Cuda(ordinal) => {
            let cuda = cuda(ordinal).with_context(|| format!("--device {}", args.device))?;
            Ok(Device::Cuda(cuda))
        }
        Choice::Auto => match cuda(0) {
            Ok(cuda) => Ok(Device::Cuda(cuda)),
            Err(error) if precision == Precision::F32 && error.is_absence() => {
                let reason = reason(&error);
                console.say(format_args!("no GPU is used ({reason}): computing on the CPU"));
                Ok(Device::Cpu(cpu(), Some(reason)))
            }
            Err(error) if precision != Precision::F32 => {
                Err(error).with_context(|| format!("--precision {} needs a GPU", args.precision))
            }
            Err(error) => {
                Err(error).context("--device auto found a GPU that does not work; see --device cpu")
            }
        },
    }
}

/// What happened, without the cure.
fn reason(error: &CudaError) -> String {
    let text = error.to_string();
    text.split(';').next().unwrap_or(&text).to_owned()
}

fn parse_choice(name: &str) -> anyhow::Result<Choice> {
    Ok(match name {
        "auto" => Choice::Auto,
        "cpu" => Choice::Cpu,
        "cuda" => Choice::Cuda(0),
        other => match other.strip_prefix("cuda:").map(str::parse) {
            Some(Ok(ordinal)) => Choice::Cuda(ordinal),
            _ => bail!("--device {other}: there is no such device; use auto, cpu or cuda[:N]"),
        },
    })
}

/// `--precision` as it was meant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arithmetic {
    /// The CPU's alone.
    Bf16,
    /// A GPU's, or `f32`.
    Other(Precision),
}

impl Arithmetic {
    fn parse(name: &str, choice: Choice) -> anyhow::Result<Self> {
        let arithmetic = match name {
            "f32" => Self::Other(Precision::F32),
            "tf32" => Self::Other(Precision::Tf32),
            "f16" => Self::Other(Precision::F16),
            "bf16" => Self::Bf16,
            other => bail!("--precision {other}: there is no such arithmetic; use f32, tf32, f16 or bf16"),
        };
        match (choice, arithmetic) {
            (Choice::Cpu, Self::Other(Precision::Tf32 | Precision::F16)) => bail!(Environment(format!(
                "--precision {name}: the CPU computes in f32 or bf16; use --precision f32, or --device cuda"
            ))),
            (Choice::Cuda(_), Self::Bf16) => bail!(Environment(
                "--precision bf16: a GPU computes in f32, tf32 or f16; use one of them, or --device cpu"
                    .into()
            )),
            _ => Ok(arithmetic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_by_name_and_number() {
        assert_eq!(parse_choice("cuda:3").unwrap(), Choice::Cuda(3));
        assert_eq!(parse_choice("cuda").unwrap(), Choice::Cuda(0));
        for bad in ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(parse_choice(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fallback_gives_its_reason_without_the_cure() {
        assert_eq!(reason(&CudaError::NoDriver), "no NVIDIA driver: libcuda was not found");
    }
}
