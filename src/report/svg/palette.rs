//! The colours of charts, by the names that the style rules give them.

/// Name, colour on a light ground, colour on a dark one.
///
/// [`STYLE`](super::STYLE) falls back to the light ones; the HTML page defines both. A test holds all three together, and
/// another that series are told apart by people who lack one kind of cone.
pub(super) const PALETTE: [(&str, &str, &str); 9] = [
    ("ground", "#ffffff", "#14161a"),
    ("ink", "#1a1d23", "#e9ebef"),
    ("muted", "#5b6472", "#9aa3b2"),
    ("line", "#e3e6ea", "#2d323b"),
    ("accent", "#3457d5", "#8aa4ff"),
    ("good", "#0f8a6d", "#4cc9a4"),
    ("defect", "#c2410c", "#ff8a5c"),
    ("plum", "#7a1f6b", "#c65fb5"),
    ("gold", "#b98a00", "#ffe08a"),
];

/// `rules` with every `var(--name, …)` replaced by its colour: for programs that draw SVG but know no CSS variables.
pub(super) fn resolved(rules: &str, dark: bool) -> String {
    let mut out = String::with_capacity(rules.len());
    let mut rest = rules;
    while let Some((before, after)) = rest.split_once("var(--") {
        out.push_str(before);
        let Some((name, fallback, behind)) = after.split_once(')').and_then(|(inside, behind)| {
            let (name, fallback) = inside.split_once(',')?;
            Some((name, fallback.trim(), behind))
        }) else {
            rest = after;
            continue;
        };
        let color = PALETTE.iter().find(|color| color.0 == name);
        out.push_str(color.map_or(fallback, |color| if dark { color.2 } else { color.1 }));
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::STYLE;
    use super::*;

    #[test]
    fn the_page_and_the_charts_have_the_same_colours() {
        let page = include_str!("../html/style.css");
        for (name, light, dark) in PALETTE {
            assert!(STYLE.contains(&format!("var(--{name}, {light})")), "{name}");
            let definitions: Vec<&str> =
                page.split(&format!("--{name}: ")).skip(1).map(|rest| &rest[..7]).collect();
            assert_eq!(definitions[..2], [light, dark], "{name}");
        }
    }

    #[test]
    fn no_variable_is_left_in_a_file_of_its_own() {
        let rules = "a { fill: var(--gold, #b98a00); } b { stroke: var(--unknown, #123456) }";
        assert_eq!(resolved(rules, true), "a { fill: #ffe08a; } b { stroke: #123456 }");
        assert!(!resolved(STYLE, false).contains("var("));
    }

    /// Linear sRGB of `#rrggbb`.
    fn linear(color: &str) -> [f64; 3] {
        std::array::from_fn(|k| {
            let value = f64::from(u8::from_str_radix(&color[1 + 2 * k..3 + 2 * k], 16).unwrap()) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// OKLab (Ottosson 2020) of linear sRGB.
    fn oklab([r, g, b]: [f64; 3]) -> [f64; 3] {
        let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).max(0.0).cbrt();
        let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).max(0.0).cbrt();
        let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).max(0.0).cbrt();
        [
            0.210_454_255_3 * l + 0.793_617_785 * m - 0.004_072_046_8 * s,
            1.977_998_495_1 * l - 2.428_592_205 * m + 0.450_593_709_9 * s,
            0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766 * s,
        ]
    }

    /// How a person without one kind of cone sees a colour: G. Machado, M. Oliveira, L. Fernandes, "A Physiologically-based
    /// Model for Simulation of Color Vision Deficiency", 2009, severity 1.0.
    const DEFICIENCIES: [(&str, [[f64; 3]; 3]); 3] = [
        (
            "protanopia",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
        ),
        (
            "deuteranopia",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
        ),
        (
            "tritanopia",
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        ),
    ];

    /// A just noticeable difference is about 0.02 in OKLab; three times that is told apart in thin lines. (Series have
    /// markers of different shapes besides.)
    #[test]
    fn series_are_told_apart_by_the_colour_blind() {
        for dark in [false, true] {
            let series = ["accent", "good", "defect", "plum", "gold", "ink"];
            let colors: Vec<[f64; 3]> = series
                .map(|name| PALETTE.iter().find(|color| color.0 == name).unwrap())
                .map(|color| linear(if dark { color.2 } else { color.1 }))
                .to_vec();
            for (name, matrix) in DEFICIENCIES {
                let seen: Vec<[f64; 3]> = colors
                    .iter()
                    .map(|color| {
                        oklab(
                            matrix.map(|row| row.iter().zip(color).map(|(a, b)| a * b).sum::<f64>().max(0.0)),
                        )
                    })
                    .collect();
                for i in 0..seen.len() {
                    for j in 0..i {
                        let distance = (0..3).map(|k| (seen[i][k] - seen[j][k]).powi(2)).sum::<f64>().sqrt();
                        assert!(distance > 0.06, "{} and {} under {name}: {distance}", series[i], series[j]);
                    }
                }
            }
        }
    }
}
