//! Opening the device a command computes on.

use super::Environment;
use super::args::DeviceArgs;
use super::console::Console;
use crate::backend::cpu::Cpu;
use anyhow::bail;

/// Opens the device of `--device` with the arithmetic of `--precision` and `--threads` threads.
///
/// # Errors
/// [`Environment`] for a device or an arithmetic that is not there: never a silent other one.
pub(super) fn open(args: &DeviceArgs, console: &Console) -> anyhow::Result<Cpu<f32>> {
    match args.device.as_str() {
        "auto" | "cpu" => {}
        name if name == "cuda" || name.starts_with("cuda:") => {
            bail!(Environment(format!(
                "--device {name}: this build computes on the CPU only; use --device cpu or auto"
            )))
        }
        other => bail!("--device {other}: there is no such device; use auto, cpu or cuda[:N]"),
    }
    match args.precision.as_str() {
        "f32" => {}
        name @ ("tf32" | "f16" | "bf16") => {
            bail!(Environment(format!(
                "--precision {name}: the CPU computes in f32 only; use --precision f32"
            )))
        }
        other => bail!("--precision {other}: there is no such arithmetic; use f32"),
    }
    if let Some(threads) = args.threads {
        if threads == 0 {
            bail!("--threads 0: at least one thread must work");
        }
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    console.detail(format_args!("{} threads", rayon::current_num_threads()));
    Ok(Cpu::new())
}
