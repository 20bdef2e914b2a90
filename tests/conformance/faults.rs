//! The suite can fail: every fault below is one that an implementation could well have, and must be found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use simplenet::backend::cpu::Cpu;

use crate::faulty::Faulty;
use crate::subject::{DOUBLE, Subject};

/// A wrong reading of a definition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// None: the wrapper itself changes nothing.
    None,
    /// `normalize` takes blue for red.
    SwappedColours,
    /// `conv2d` repeats the border where zeros belong.
    RepeatedBorder,
    /// `conv2d` exchanges the kernel's two axes.
    TransposedKernel,
    /// `conv2d` adds the residual after the ReLU.
    ResidualAfterRelu,
    /// `max_pool2d` pads with zeros.
    MaximumWithZeros,
    /// `aggregate` divides by the neighbours inside the image (`count_include_pad = false`).
    CountExcludesPadding,
    /// `aggregate` unfolds to (c, kw, kh).
    TransposedUnfold,
    /// `aggregate` lays the deepest level first.
    LevelsReversed,
    /// `gather_rows` gives the images in the order of the cache.
    SortedImages,
    /// `gather_rows` keeps half precision where single was asked for.
    CacheInHalf,
    /// `gather_rows` multiplies by the factor in `f64`.
    ScaledInDouble,
    /// `linear` forgets the bias.
    NoBias,
    /// `linear_grad_weight` averages over rows.
    MeanWeightGradient,
    /// `column_sums` averages over rows.
    MeanBiasGradient,
    /// `add` overwrites the sum.
    SumOverwritten,
    /// `noise` draws the same noise every step.
    SameNoiseEveryStep,
    /// `noise` starts each row on a new Philox block.
    NoiseByRow,
    /// `noise` uses only the low word of the seed.
    ShortSeed,
    /// `noise` draws one component of the mixture for all rows.
    OneComponentForAllRows,
    /// `noise` draws a component for every element.
    ComponentByElement,
    /// `batch_norm_score_backward` gives the normal half's gradient for both.
    HalfTheGradient,
    /// `batch_norm_score` keeps the biased variance.
    BiasedRunningVariance,
    /// `batch_norm_score` normalises with the unbiased variance.
    UnbiasedBatchVariance,
    /// `batch_norm_score` computes `E[x²] − E[x]²`.
    OnePassVariance,
    /// `batch_norm_score` takes the momentum for the share of the old statistics.
    ReversedMomentum,
    /// `batch_norm_score` forgets the bias in the running mean.
    RunningMeanWithoutBias,
    /// `batch_norm_score_backward` takes the statistics for constants.
    ConstantStatistics,
    /// `batch_norm_inference` adds epsilon to the deviation.
    EpsilonOutsideTheRoot,
    /// `leaky_relu_backward` has slope one at zero.
    SlopeOneAtZero,
    /// `batch_norm_score_backward` averages the weight's gradient over rows.
    MeanScoreGradient,
    /// `resize_add_score` takes the first level for all of them.
    DeeperLevelsForgotten,
    /// `loss` overwrites the totals.
    TotalsOverwritten,
    /// `loss` does not weigh by images.
    TotalsUnweighted,
    /// `loss` sums the two means of the cross-entropy.
    CrossEntropyOfTwoMeans,
    /// `adam` takes AdamW's decay for L2.
    NeverDecoupled,
    /// `adam` takes L2 for AdamW's decay.
    AlwaysDecoupled,
    /// `adam` corrects no bias.
    NoBiasCorrection,
    /// `adam` updates only the first parameter.
    FirstParameterOnly,
    /// `end_step` stays where it is.
    SameStepForEver,
    /// `begin_epoch` starts at the beginning, whatever is done.
    ResumedAtTheStart,
    /// `begin_epoch` keeps the first order it was given.
    FirstOrderForEver,
    /// `anomaly_map` gives the maximum of the smoothed map.
    MaximumOfTheMap,
    /// `anomaly_map` gives every image the first one's map.
    FirstMapOnly,
    /// Results change from one call to the next.
    NotReproducible,
}

type Check = fn(&Subject<Faulty>);

/// Every operation's check, and what it must find.
const EXPECTATIONS: [(Check, &[Fault]); 17] = {
    use Fault::*;
    [
        (crate::normalize::check, &[SwappedColours, NotReproducible]),
        (crate::conv2d::check, &[RepeatedBorder, TransposedKernel, ResidualAfterRelu]),
        (crate::max_pool2d::check, &[MaximumWithZeros]),
        (crate::aggregate::check, &[CountExcludesPadding, TransposedUnfold, LevelsReversed]),
        (crate::gather_rows::check, &[SortedImages, CacheInHalf, ScaledInDouble]),
        (crate::linear::check, &[NoBias, MeanWeightGradient, MeanBiasGradient]),
        (crate::add::check, &[SumOverwritten]),
        (
            crate::noise::check,
            &[SameNoiseEveryStep, NoiseByRow, ShortSeed, OneComponentForAllRows, ComponentByElement],
        ),
        (crate::batch_norm::check, &[EpsilonOutsideTheRoot]),
        (
            crate::batch_norm_score::check,
            &[
                BiasedRunningVariance,
                UnbiasedBatchVariance,
                OnePassVariance,
                ReversedMomentum,
                RunningMeanWithoutBias,
                ConstantStatistics,
                HalfTheGradient,
                MeanScoreGradient,
            ],
        ),
        (crate::leaky_relu::check, &[SlopeOneAtZero]),
        (crate::score::check, &[]),
        (crate::resize_add_score::check, &[DeeperLevelsForgotten]),
        (crate::loss::check, &[TotalsOverwritten, TotalsUnweighted, CrossEntropyOfTwoMeans]),
        (crate::adam::check, &[NeverDecoupled, AlwaysDecoupled, NoBiasCorrection, FirstParameterOnly]),
        (crate::schedule::check, &[SameStepForEver, ResumedAtTheStart, FirstOrderForEver]),
        (crate::anomaly_map::check, &[MaximumOfTheMap, FirstMapOnly]),
    ]
};

#[test]
fn the_suite_finds_every_fault() {
    for (check, faults) in EXPECTATIONS {
        for &fault in faults {
            let complaint = complaint(check, fault).unwrap_or_else(|| panic!("{fault:?} was not found"));
            let by_comparison = complaint.contains("exceeds") || complaint.contains("differs in bits");
            assert!(by_comparison, "{fault:?} was found by accident only: {complaint}");
        }
    }
}

/// The wrapper around the CPU is no fault in itself.
#[test]
fn the_suite_accepts_the_wrapper_without_a_fault() {
    for (check, _) in EXPECTATIONS {
        assert_eq!(complaint(check, Fault::None), None);
    }
}

/// What the suite says of a CPU with this fault.
fn complaint(check: Check, fault: Fault) -> Option<String> {
    let subject = Subject::new("faulty", Faulty::new(Cpu::new(), fault), DOUBLE);
    let panic = catch_unwind(AssertUnwindSafe(|| check(&subject))).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}
