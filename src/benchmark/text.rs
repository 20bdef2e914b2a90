//! A report as a person reads it.

use super::stages::in_words;
use super::{Measurement, ProductRate, Report, Scope};
use crate::report::table::display_width;
use std::fmt::Write as _;

/// What stands where the system tells nothing.
const ABSENT: &str = "–";

/// The report: how it was measured, a table a scope, stages and parts below it.
pub fn render(report: &Report, product: &ProductRate) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "device    {}", report.device);
    if let Some(first) = report.results.first() {
        let setup = &first.setup;
        let _ = writeln!(
            out,
            "network   {} at {} px, {}, {} convolutions, {} CPU threads",
            setup.backbone, setup.size, setup.precision, setup.conv, setup.threads
        );
        let note = if setup.weights.starts_with("synthetic:") {
            " (random numbers: as fast as any others, but the scores mean nothing)"
        } else {
            ""
        };
        let _ = writeln!(out, "weights   {}{note}", setup.weights);
    }
    let _ = writeln!(
        out,
        "product   {} TFLOP/s: {side} × {side} × {side}, median of {}; as the head's linear layer {}, as a 1×1 \
         convolution {}; the better counts",
        significant(product.tflops()),
        product.repeats,
        significant(product.linear),
        significant(product.convolution),
        side = product.side,
    );
    let _ = writeln!(out, "protocol  {}", report.protocol.replace("; ", ";\n          "));
    for scope in [Scope::Model, Scope::Files, Scope::Train] {
        let results: Vec<&Measurement> = report.results.iter().filter(|r| r.scope == scope).collect();
        if !results.is_empty() {
            let _ = write!(out, "\n{scope}: {}\n{}", covers(scope), table(scope, &results));
            results.iter().for_each(|result| parts(result, &mut out));
        }
    }
    out
}

/// What the clock covers, in words.
pub(super) fn covers(scope: Scope) -> &'static str {
    match scope {
        Scope::Model => "u8 images in host memory → maps and scores in host memory",
        Scope::Files => "files → maps and scores in host memory, decoding included",
        Scope::Train => "one epoch of the head on cached features",
    }
}

fn table(scope: Scope, results: &[&Measurement]) -> String {
    let (unit, time) = match scope {
        Scope::Model => ("images/s", "ms"),
        Scope::Files => ("images/s", "ms a pass"),
        Scope::Train => ("images × epochs/s", "ms an epoch"),
    };
    let mut header: Vec<String> = vec!["batch".into(), unit.into(), "95 % interval".into()];
    let by_paper = results.iter().any(|result| result.ratio_to_paper.is_some());
    if by_paper {
        header.push("× paper's 77".into());
    }
    header.extend([format!("p50 {time}"), "p95".into(), "p99".into(), "TFLOP/s".into()]);
    header.extend(["of product", "host MB", "device MB", "repeats"].map(String::from));
    let mut rows = vec![header];
    for result in results {
        let interval = [result.images_per_second_low, result.images_per_second_high].map(significant);
        let mut row = vec![
            result.batch.to_string(),
            significant(result.images_per_second),
            format!("{} – {}", interval[0], interval[1]),
        ];
        if by_paper {
            row.push(result.ratio_to_paper.map_or_else(|| ABSENT.to_owned(), |ratio| format!("{ratio:.2}")));
        }
        let latency = &result.latency_ms;
        row.extend([latency.p50, latency.p95, latency.p99, result.tflops].map(significant));
        row.push(format!("{:.0} %", 100.0 * result.share_of_gemm_peak));
        row.extend([result.host_memory_bytes, result.device_memory_bytes].map(megabytes));
        row.push(format!("{} + {}", result.warmups, result.repeats));
        rows.push(row);
    }
    columns(&rows)
}

/// What lies below the row of a table: stages, or the two sides of a pipeline.
fn parts(result: &Measurement, out: &mut String) {
    let batch = result.batch;
    if let Some(stages) = &result.stages {
        let total: f64 = stages.iter().map(|stage| stage.seconds).sum();
        let mut rows = vec![["stage", "ms", "share"].map(String::from).to_vec()];
        for stage in stages {
            let (time, share) = (significant(1e3 * stage.seconds), 100.0 * stage.seconds / total);
            rows.push(vec![in_words(stage.name).to_owned(), time, format!("{share:.1} %")]);
        }
        rows.push(vec!["sum".into(), significant(1e3 * total), "100.0 %".into()]);
        let _ = write!(
            out,
            "\nstages at batch {batch}, mean time a batch, each on its own: the sum may exceed the whole ({} ms)\n{}",
            significant(1e3 * mean(&result.seconds)),
            columns(&rows)
        );
    }
    if let (Some(decode), Some(model), Some(files)) =
        (result.decode_seconds, result.model_seconds, &result.files)
    {
        let pass = mean(&result.seconds);
        let _ = writeln!(
            out,
            "batch {batch}: of a pass over {files} ({} s) the detector worked for {:.0} %; decoding took {} s of \
             its threads beside it",
            significant(pass),
            100.0 * model / pass,
            significant(decode)
        );
    }
    if let (Some(extraction), Some(images)) = (result.extraction_seconds, result.images) {
        let _ = writeln!(
            out,
            "batch {batch}: an epoch of {images} images takes {} s; before the first, their features took {} s once, \
             decoding included",
            significant(mean(&result.seconds)),
            significant(extraction)
        );
    }
}

fn mean(seconds: &[f64]) -> f64 {
    seconds.iter().sum::<f64>() / seconds.len() as f64
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| ABSENT.to_owned(), |bytes| format!("{:.0}", bytes as f64 / 1e6))
}

/// Four significant digits, no exponent.
fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let decimals = (3 - value.abs().log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// Rows of cells, each column as wide as its widest, the first to the left and the others to the right.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| display_width(&row[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - display_width(cell));
            line += &if column == 0 { format!("{cell}{padding}") } else { format!("  {padding}{cell}") };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits_count() {
        for (value, text) in [
            (0.0, "0"),
            (12345.6, "12346"),
            (123.456, "123.5"),
            (7.0, "7.000"),
            (0.123_456, "0.1235"),
            (0.001_234_56, "0.001235"),
        ] {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "batch"], ["über", "1"]].map(|row| row.map(String::from).to_vec());
        assert_eq!(columns(&rows), "a     batch\nüber      1\n");
    }
}
