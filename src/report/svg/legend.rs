//! Which colour and which mark is which series.

use std::fmt::Write as _;

use super::marker::Marker;
use super::{Tone, line, short, text, text_width};

/// What stands before a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Key {
    /// A piece of a line.
    Line,
    /// A tinted area.
    Area,
    /// A mark.
    Mark(Marker),
}

/// Names at the upper right of a chart, beside the name of its vertical axis; on further lines where they do not fit.
pub(super) struct Legend<'a> {
    lines: Vec<Vec<Entry<'a>>>,
}

type Entry<'a> = (&'a str, Tone, Key);

/// The key, the space between it and its name, and the one before the next key.
const KEY: f64 = 14.0;
const SPACE: f64 = 7.0;
const GAP: f64 = 14.0;
const LINE: f64 = 18.0;

impl<'a> Legend<'a> {
    /// A legend for a chart of the given width whose vertical axis is named `label`. Entries that are the same appear once;
    /// a single one is no legend, for there is nothing to tell apart.
    pub(super) fn new(entries: impl IntoIterator<Item = Entry<'a>>, label: &str, width: f64) -> Self {
        let mut distinct: Vec<Entry<'a>> = Vec::new();
        for entry in entries {
            if !distinct.contains(&entry) {
                distinct.push(entry);
            }
        }
        let mut lines: Vec<Vec<Entry<'a>>> = vec![Vec::new()];
        if distinct.len() > 1 {
            let mut room = width - text_width(label) - GAP;
            for entry in distinct {
                let taken = entry_width(&entry);
                if taken > room && !(lines.len() > 1 && lines[lines.len() - 1].is_empty()) {
                    lines.push(Vec::new());
                    room = width;
                }
                room -= taken;
                if let Some(last) = lines.last_mut() {
                    last.push(entry);
                }
            }
        }
        Self { lines }
    }

    /// What the lines after the first take of the chart's height.
    pub(super) fn height(&self) -> f64 {
        LINE * (self.lines.len() - 1) as f64
    }

    /// Draws every line so that it ends near `right`: keys stand close to their names whatever the font's widths are.
    pub(super) fn draw(&self, out: &mut String, right: f64) {
        for (index, entries) in self.lines.iter().enumerate() {
            let y = 13.0 + LINE * index as f64;
            let mut x = right + GAP - entries.iter().map(entry_width).sum::<f64>();
            for entry in entries {
                let (name, tone, key) = *entry;
                let class = tone.class();
                match key {
                    Key::Line => line(out, &format!("key {class}"), [x, y - 4.0, x + KEY, y - 4.0]),
                    Key::Area => {
                        let (left, top) = (short(x), short(y - 10.0));
                        let _ = writeln!(
                            out,
                            "<rect class=\"area {class}\" x=\"{left}\" y=\"{top}\" width=\"{KEY}\" height=\"11\"/>"
                        );
                    }
                    Key::Mark(marker) => marker.draw(out, tone, [x + 0.5 * KEY, y - 4.0]),
                }
                text(out, x + KEY + SPACE, y, "start", "name", name);
                x += entry_width(entry);
            }
        }
    }
}

fn entry_width((name, _, _): &Entry<'_>) -> f64 {
    KEY + SPACE + text_width(name) + GAP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_fit_beside_the_label_go_below_it() {
        let names = ["wide_resnet50_2", "resnet50", "resnet18"];
        let entries = || names.map(|name| (name, Tone::Primary, Key::Line));
        // 15 + 8 + 8 characters of 6.6 and three times 35 are 309.6.
        let wide = Legend::new(entries(), "loss", 400.0);
        assert_eq!((wide.lines.len(), wide.height()), (1, 0.0));
        let narrow = Legend::new(entries(), "loss", 250.0);
        assert_eq!(narrow.lines.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        let mut out = String::new();
        narrow.draw(&mut out, 240.0);
        assert!(out.contains("x=\"141\" y=\"13\" text-anchor=\"start\">wide_resnet50_2"), "{out}");
        assert!(out.contains("x=\"187.2\" y=\"31\" text-anchor=\"start\">resnet18"), "{out}");
    }

    #[test]
    fn equal_entries_appear_once_and_one_entry_not_at_all() {
        let one = [("a", Tone::Good, Key::Line), ("a", Tone::Good, Key::Line)];
        let mut out = String::new();
        Legend::new(one, "", 300.0).draw(&mut out, 300.0);
        assert!(out.is_empty(), "{out}");
        Legend::new([one[0], one[1], ("a", Tone::Good, Key::Area)], "", 300.0).draw(&mut out, 300.0);
        assert_eq!(out.matches("<text").count(), 2);
    }
}
