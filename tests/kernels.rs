//! The kernels as nvcc compiled them: for which GPUs, and with how many registers.
//!
//! `cargo test --test kernels -- --nocapture` prints the table of resources. In a build without nvcc
//! (`scripts/get-nvcc.sh` installs it) there is nothing to look at, and the tests of this build's images say so.

#[path = "../build/architectures.rs"]
mod architectures;
#[path = "../build/resources.rs"]
mod resources;

mod images {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}

use images::{ARCHITECTURES, IMAGES, NVCC_VERSION, PTX_ARCHITECTURES};
use resources::Usage;

/// What the table shows: the oldest architecture with asynchronous copies, and Hopper.
const TABULATED: [&str; 2] = ["sm_80", "sm_90"];

#[test]
fn no_kernel_spills_registers() {
    if NVCC_VERSION.is_none() {
        println!("this build has no kernels");
        return;
    }
    let mut spills = Vec::new();
    let mut table = heading();
    for (stem, _) in IMAGES {
        let log = std::fs::read_to_string(format!("{}/{stem}.log", env!("OUT_DIR"))).unwrap();
        let (usages, _) = resources::parse(&log);
        // A log that is not understood must not pass for one without spills.
        for arch in ARCHITECTURES {
            let name = format!("sm_{arch}");
            assert!(usages.iter().any(|usage| usage.architecture == name), "nothing about {name} in\n{log}");
        }
        for usage in &usages {
            if usage.architecture == format!("sm_{}", ARCHITECTURES[0]) {
                table += &row(usage, &usages);
            }
        }
        spills.extend(usages.iter().filter(|usage| usage.spills()).map(|usage| complaint(stem, usage)));
    }
    println!("{table}");
    assert!(spills.is_empty(), "kernels spill registers, or have arrays in memory:\n{}", spills.join("\n"));
}

#[test]
fn images_are_fatbins_in_the_order_of_their_names() {
    assert!(IMAGES.is_sorted_by_key(|(stem, _)| *stem));
    assert!(ARCHITECTURES.is_sorted());
    assert_eq!(PTX_ARCHITECTURES, architectures::ptx(ARCHITECTURES));
    for (stem, image) in IMAGES {
        match NVCC_VERSION {
            // The magic number of a fatbin, which the driver reads as integers of eight bytes.
            Some(_) => {
                assert_eq!(image[..4], 0xBA55_ED50_u32.to_le_bytes(), "{stem}");
                assert!(image.as_ptr().addr().is_multiple_of(8), "{stem}");
            }
            None => assert!(image.is_empty(), "{stem}"),
        }
    }
    assert_eq!(NVCC_VERSION.is_some(), !ARCHITECTURES.is_empty());
}

#[test]
fn every_architecture_gets_machine_code_and_the_ends_get_ptx() {
    let options = architectures::gencode(&[75, 86, 120], "");
    assert_eq!(
        options,
        [
            "-gencode=arch=compute_75,code=[sm_75,compute_75]",
            "-gencode=arch=compute_86,code=sm_86",
            "-gencode=arch=compute_120,code=[sm_120,compute_120]",
        ]
    );
    assert_eq!(architectures::gencode(&[90], ""), ["-gencode=arch=compute_90,code=[sm_90,compute_90]"]);
}

#[test]
fn warp_group_products_get_code_for_hopper_alone() {
    let source = "asm volatile(\"wgmma.fence.sync.aligned;\");";
    let special = "-gencode=arch=compute_90a,code=sm_90a";
    assert!(architectures::gencode(architectures::DEFAULT, source).iter().any(|option| option == special));
    assert!(!architectures::gencode(architectures::DEFAULT, "").iter().any(|option| option == special));
    assert!(!architectures::gencode(&[80, 100], source).iter().any(|option| option == special));
}

#[test]
fn an_nvcc_that_does_not_know_all_architectures_compiles_for_the_rest() {
    let known = architectures::known("compute_80\ncompute_87\ncompute_90\n");
    assert_eq!(known, [80, 87, 90]);
    let choice = architectures::choose(None, &known).unwrap();
    assert_eq!((choice.chosen, choice.dropped), (vec![80, 90], vec![75, 86, 89, 100, 120]));
    let problem = architectures::choose(None, &[50, 60]).unwrap_err();
    assert!(problem.contains("50, 60") && problem.contains("get-nvcc.sh"), "{problem}");
}

#[test]
fn kernel_archs_is_taken_at_its_word() {
    let chosen = |list| architectures::choose(Some(list), &[80, 87, 90]).map(|choice| choice.chosen);
    assert_eq!(chosen("90, 87,90").unwrap(), [87, 90]);
    assert!(chosen("80,120").unwrap_err().contains("names 120"));
    assert!(chosen("8.0").unwrap_err().contains("without dots"));
    assert!(chosen("").unwrap_err().contains("without dots"));
}

#[test]
fn the_assemblers_words_are_understood() {
    let log = "\
pool.cu(8): warning #177-D: variable \"unused\" was declared but never referenced
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pool' for 'sm_75'
ptxas info    : Function properties for pool
    1184 bytes stack frame, 1392 bytes spill stores, 2796 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 1024 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 162.416 ms
ptxas info    : Function properties for _Z6helperfi
    0 bytes stack frame, 0 bytes spill stores, 20 bytes spill loads
pool.cu(8): warning #177-D: variable \"unused\" was declared but never referenced
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'pool' for 'sm_90a'
ptxas info    : Function properties for pool
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized
ptxas info    : Used 10 registers, used 0 barriers
ptxas info    : Compile time = 1.4 ms
ptxas info    : Compiling entry function 'table' for 'sm_90a'
ptxas info    : Function properties for table
    96 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 62 registers, used 0 barriers, 96 bytes cumulative stack size";
    let usage = |function: &str,
                 architecture: &str,
                 registers,
                 [shared, stack, spill_stores, spill_loads]: [u32; 4]| {
        let (function, architecture) = (function.to_owned(), architecture.to_owned());
        Usage { function, architecture, registers, shared, stack, spill_stores, spill_loads }
    };
    let (usages, others) = resources::parse(log);
    assert_eq!(
        usages,
        [
            usage("pool", "sm_75", Some(64), [1024, 1184, 1392, 2796]),
            usage("_Z6helperfi", "sm_75", None, [0, 0, 0, 20]),
            usage("pool", "sm_90a", Some(10), [0; 4]),
            usage("table", "sm_90a", Some(62), [0, 96, 0, 0]),
        ]
    );
    assert_eq!(usages.iter().map(Usage::spills).collect::<Vec<_>>(), [true, true, false, true]);
    let complaint = complaint("pool", &usages[0]);
    assert_eq!(
        complaint,
        "kernels/pool.cu: pool on sm_75: 1184 bytes of stack, 1392 stored, 2796 loaded a thread"
    );
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(others[0].contains("#177-D") && others[1].contains("serialized"), "{others:?}");
}

fn complaint(stem: &str, usage: &Usage) -> String {
    let Usage { function, architecture, stack, spill_stores, spill_loads, .. } = usage;
    format!(
        "kernels/{stem}.cu: {function} on {architecture}: {stack} bytes of stack, {spill_stores} stored, {spill_loads} loaded a \
         thread"
    )
}

fn heading() -> String {
    let columns = TABULATED.map(|name| format!("{:^39}", format!("---- {name} ----"))).concat();
    let units = format!("{:>10}{:>8}{:>7}{:>14}", "registers", "shared", "stack", "spill st/ld").repeat(2);
    format!("\n{:32}{columns}\n{:32}{units}", "", "kernel")
}

/// The same kernel on both architectures, bytes except for the registers.
fn row(usage: &Usage, usages: &[Usage]) -> String {
    let mut row = format!("\n{:32}", usage.function);
    for architecture in TABULATED {
        let found = usages.iter().find(|u| u.function == usage.function && u.architecture == architecture);
        let Some(Usage { registers, shared, stack, spill_stores, spill_loads, .. }) = found else {
            row += &format!("{:>39}", "-");
            continue;
        };
        let registers = registers.map_or("-".to_owned(), |registers| registers.to_string());
        row +=
            &format!("{registers:>10}{shared:>8}{stack:>7}{:>14}", format!("{spill_stores}/{spill_loads}"));
    }
    row
}
