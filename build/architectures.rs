//! Which GPUs the kernels are compiled for, and nvcc's options that say so.

/// Compute capabilities with machine code of their own: every family since Turing (7.5), the oldest that CUDA 13
/// knows. Capabilities are written as nvcc does, `86` for 8.6.
pub(crate) const DEFAULT: &[u32] = &[75, 80, 86, 89, 90, 100, 120];

/// What to compile for, and what was left out because this nvcc is too old (or too new) for it.
#[derive(Debug, PartialEq)]
pub(crate) struct Choice {
    /// In ascending order, never empty.
    pub(crate) chosen: Vec<u32>,
    /// In ascending order.
    pub(crate) dropped: Vec<u32>,
}

/// The architectures that `nvcc --list-gpu-arch` printed.
pub(crate) fn known(listing: &str) -> Vec<u32> {
    listing.lines().filter_map(|line| line.trim().strip_prefix("compute_")?.parse().ok()).collect()
}

/// The default list without what nvcc does not know; or `KERNEL_ARCHS` (`80,90`), which is taken at its word.
///
/// # Errors
/// A sentence with a cure: about a list that is none, or about what nvcc does not know.
pub(crate) fn choose(kernel_archs: Option<&str>, known: &[u32]) -> Result<Choice, String> {
    let Some(list) = kernel_archs else {
        let (chosen, dropped): (Vec<_>, Vec<_>) = DEFAULT.iter().partition(|arch| known.contains(arch));
        if chosen.is_empty() {
            return Err(format!(
                "this nvcc compiles for none of {}; it knows {}: install CUDA 13.0 (scripts/get-nvcc.sh does)",
                join(DEFAULT),
                join(known)
            ));
        }
        return Ok(Choice { chosen, dropped });
    };
    let mut chosen =
        list.split(',').map(|arch| arch.trim().parse()).collect::<Result<Vec<u32>, _>>().map_err(|_| {
            format!("KERNEL_ARCHS is `{list}`; it lists compute capabilities without dots: 80,86,90")
        })?;
    chosen.sort_unstable();
    chosen.dedup();
    if let Some(unknown) = chosen.iter().find(|arch| !known.contains(arch)) {
        return Err(format!("KERNEL_ARCHS names {unknown}, but this nvcc knows only {}", join(known)));
    }
    Ok(Choice { chosen, dropped: Vec::new() })
}

/// The architectures whose PTX goes into the program: the oldest and the newest.
///
/// Machine code serves its own capability and later ones of the same generation (8.6 runs on 8.9), but no other
/// generation (11.0), and no embedded chip for certain (8.7). PTX serves those: the driver compiles it on the device.
/// - PTX of the oldest architecture runs on everything, also on what lies between the listed ones.
/// - PTX of the newest gives future devices the newest instructions; the driver takes the newest that fits. It costs
///   no time, because it is on the way to that architecture's machine code.
pub(crate) fn ptx(architectures: &[u32]) -> Vec<u32> {
    let mut ends: Vec<u32> = architectures.first().into_iter().chain(architectures.last()).copied().collect();
    ends.dedup();
    ends
}

/// nvcc's `-gencode` options for one file.
///
/// A source that says `wgmma` (Hopper's tensor-core instruction for four warps) gets code for `sm_90a` as well: nvcc
/// offers such instructions under that name only, without the promise that later devices run them.
pub(crate) fn gencode(architectures: &[u32], source: &str) -> Vec<String> {
    let ptx = ptx(architectures);
    let mut options = Vec::new();
    for arch in architectures {
        options.push(match ptx.contains(arch) {
            true => format!("-gencode=arch=compute_{arch},code=[sm_{arch},compute_{arch}]"),
            false => format!("-gencode=arch=compute_{arch},code=sm_{arch}"),
        });
        if *arch == 90 && source.contains("wgmma") {
            options.push("-gencode=arch=compute_90a,code=sm_90a".to_owned());
        }
    }
    options
}

/// `75, 80, 86`
pub(crate) fn join(architectures: &[u32]) -> String {
    architectures.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
