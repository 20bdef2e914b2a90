//! The tile unit's own instructions, and the right to use them, under Linux.

use super::{Bf16Pair, COLUMNS, Product, TILE_ROWS};
use crate::backend::cpu::instructions::Instructions;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::cell::Cell;
use std::sync::OnceLock;

/// Bytes of a cache line, and of a tile's row.
const LINE: usize = 64;

/// Whether the processor has tiles of bfloat16 and this process has the right to use them, which is asked for once.
pub(super) fn permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| Instructions::have_bf16() && has_tiles() && request_permission())
}

/// CPUID's word on AMX-TILE and AMX-BF16.
fn has_tiles() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    let leaves = __cpuid(0).eax;
    leaves >= 7 && __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, from Linux 5.16 on. It fails where the kernel or a hypervisor
/// withholds the registers.
fn request_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call changes nothing but which registers the process may use.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// What `ldtilecfg` reads: the rows and the bytes of a row of every tile.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight full tiles.
static FULL: Configuration = {
    let (mut bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        bytes[tile] = LINE as u16;
        rows[tile] = TILE_ROWS as u8;
        tile += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], bytes, rows }
};

thread_local! {
    /// How many hold this thread's tiles.
    static HOLDERS: Cell<usize> = const { Cell::new(0) };
}

/// Configures the thread's tiles for their first holder.
pub(super) fn configure() {
    let holders = HOLDERS.get();
    HOLDERS.set(holders + 1);
    if holders == 0 {
        // SAFETY: `Unit::Amx` exists only where `permitted` said yes; nothing else in the process uses tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const FULL, options(nostack, readonly)) };
    }
}

/// Gives the registers back behind the last holder: what is not in use need not be saved when threads are switched.
pub(super) fn release() {
    let holders = HOLDERS.get() - 1;
    HOLDERS.set(holders);
    if holders == 0 {
        // SAFETY: as in `configure`.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// # Safety
/// This thread's tiles are configured. Every row holds what the steps read, there are weights for every step and
/// room for all sums.
pub(super) unsafe fn multiply<T>(product: &Product<'_, T>, tiles: usize, sums: &mut [f32]) {
    let steps = product.steps.offsets.len();
    let lines_ahead = size_of_val(product.ahead).div_ceil(LINE).div_ceil(steps);
    let pair = size_of::<Bf16Pair<T>>();
    let stride = pair * product.stride;
    /// The loop over the steps around the instructions of one.
    macro_rules! product {
        ([$($zero:literal)+], [$($step:literal)+], [$($store:literal)+] $(, low = $low:expr)?) => {
            // SAFETY: the caller's promise; what is fetched ahead need not be there.
            unsafe {
                asm!(
                    $($zero,)+
                    "2:",
                    "mov {rows}, [{offsets}]",
                    "lea {rows}, [{left} + 4*{rows}]",
                    $($step,)+
                    "mov {line}, {lines_ahead}",
                    "test {line}, {line}",
                    "jz 4f",
                    "3:",
                    "prefetcht1 [{ahead}]",
                    "add {ahead}, 64",
                    "dec {line}",
                    "jnz 3b",
                    "4:",
                    "add {offsets}, 8",
                    "dec {steps}",
                    "jnz 2b",
                    "mov {rows}, {sums_row}",
                    $($store,)+
                    rows = out(reg) _,
                    line = out(reg) _,
                    offsets = inout(reg) product.steps.offsets.as_ptr() => _,
                    left = in(reg) product.left.as_ptr(),
                    stride = in(reg) stride,
                    weights = inout(reg) product.weights.as_ptr() => _,
                    row = in(reg) LINE,
                    ahead = inout(reg) product.ahead.as_ptr() => _,
                    lines_ahead = in(reg) lines_ahead,
                    steps = inout(reg) steps => _,
                    sums = in(reg) sums.as_mut_ptr(),
                    sums_row = const COLUMNS * size_of::<f32>(),
                    $(low = in(reg) $low,)?
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        };
    }
    // One tile of rows needs two of sums, two tiles need four: a row of tiles each. The high parts of weights are multiplied
    // last: both parts of the rows need them.
    match (tiles, product.steps.low) {
        (1, None) => product!(
            ["tilezero tmm0" "tilezero tmm1"],
            [
                "tileloadd tmm4, [{rows} + {stride}]"
                "tileloadd tmm6, [{weights} + {row}]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tileloadd tmm7, [{weights} + {row} + 1024]"
                "tdpbf16ps tmm1, tmm4, tmm7"
                "add {weights}, 2048"
            ],
            [
                "tilestored [{sums} + {rows}], tmm0"
                "tilestored [{sums} + {rows} + 64], tmm1"
            ]
        ),
        (1, Some(low)) => product!(
            ["tilezero tmm0" "tilezero tmm1"],
            [
                "tileloadd tmm4, [{rows} + {stride}]"
                "tileloadd tmm6, [{weights} + {row} + 2048]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tileloadd tmm7, [{weights} + {row} + 3072]"
                "tdpbf16ps tmm1, tmm4, tmm7"
                "tileloadd tmm6, [{weights} + {row}]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tileloadd tmm7, [{weights} + {row} + 1024]"
                "tdpbf16ps tmm1, tmm4, tmm7"
                "add {rows}, {low}"
                "tileloadd tmm5, [{rows} + {stride}]"
                "tdpbf16ps tmm0, tmm5, tmm6"
                "tdpbf16ps tmm1, tmm5, tmm7"
                "add {weights}, 4096"
            ],
            [
                "tilestored [{sums} + {rows}], tmm0"
                "tilestored [{sums} + {rows} + 64], tmm1"
            ],
            low = pair * low
        ),
        (_, None) => product!(
            ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
            [
                "tileloadd tmm4, [{rows} + {stride}]"
                "tileloadd tmm6, [{weights} + {row}]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tileloadd tmm7, [{weights} + {row} + 1024]"
                "tdpbf16ps tmm1, tmm4, tmm7"
                // The other half of the rows lies sixteen further.
                "lea {rows}, [{rows} + 8*{stride}]"
                "lea {rows}, [{rows} + 8*{stride}]"
                "tileloadd tmm5, [{rows} + {stride}]"
                "tdpbf16ps tmm2, tmm5, tmm6"
                "tdpbf16ps tmm3, tmm5, tmm7"
                "add {weights}, 2048"
            ],
            [
                "tilestored [{sums} + {rows}], tmm0"
                "tilestored [{sums} + {rows} + 64], tmm1"
                "tilestored [{sums} + {rows} + 2048], tmm2"
                "tilestored [{sums} + {rows} + 2112], tmm3"
            ]
        ),
        // Each sum takes the terms of a step in the same order as above: which rows are multiplied together changes no bit.
        (_, Some(low)) => product!(
            ["tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3"],
            [
                "tileloadd tmm4, [{rows} + {stride}]"
                "tileloadd tmm6, [{weights} + {row} + 2048]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tileloadd tmm7, [{weights} + {row} + 3072]"
                "tdpbf16ps tmm1, tmm4, tmm7"
                "lea {line}, [{rows} + 8*{stride}]"
                "lea {line}, [{line} + 8*{stride}]"
                "tileloadd tmm5, [{line} + {stride}]"
                "tdpbf16ps tmm2, tmm5, tmm6"
                "tdpbf16ps tmm3, tmm5, tmm7"
                "tileloadd tmm6, [{weights} + {row}]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tdpbf16ps tmm2, tmm5, tmm6"
                "tileloadd tmm7, [{weights} + {row} + 1024]"
                "tdpbf16ps tmm1, tmm4, tmm7"
                "tdpbf16ps tmm3, tmm5, tmm7"
                "add {rows}, {low}"
                "add {line}, {low}"
                "tileloadd tmm4, [{rows} + {stride}]"
                "tdpbf16ps tmm0, tmm4, tmm6"
                "tdpbf16ps tmm1, tmm4, tmm7"
                "tileloadd tmm5, [{line} + {stride}]"
                "tdpbf16ps tmm2, tmm5, tmm6"
                "tdpbf16ps tmm3, tmm5, tmm7"
                "add {weights}, 4096"
            ],
            [
                "tilestored [{sums} + {rows}], tmm0"
                "tilestored [{sums} + {rows} + 64], tmm1"
                "tilestored [{sums} + {rows} + 2048], tmm2"
                "tilestored [{sums} + {rows} + 2112], tmm3"
            ],
            low = pair * low
        ),
    }
}
