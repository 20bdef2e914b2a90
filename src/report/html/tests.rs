use super::*;
use crate::report::results::CategoryResult;
use crate::report::scores::{ImageKind, Verdict};
use image::RgbImage;

fn result(category: &str) -> CategoryResult {
    CategoryResult {
        category: category.into(),
        i_auroc: Some(0.996),
        train_images: 28,
        held_out_images: 5,
        test_good: 6,
        test_defective: 17,
        without_mask: 17,
        skipped: 1,
        image_threshold: Some(0.5),
        false_rejects: Some(1),
        missed: Some(2),
        ..Default::default()
    }
}

fn item(path: &str, kind: ImageKind, score: f32, picture: Picture) -> GalleryItem {
    let verdict = if score > 0.5 { Verdict::Defect } else { Verdict::Ok };
    let score = ImageScore {
        path: path.into(),
        kind,
        defect: None,
        score,
        threshold: Some(0.5),
        verdict: Some(verdict),
        region: None,
        map_max: None,
        has_mask: false,
        overlay: Some(format!("overlays/{path}.png")),
        map: None,
        selected_on_test: false,
    };
    GalleryItem { score, picture }
}

fn epoch(epoch: u32) -> EpochRecord {
    EpochRecord {
        head: "a".into(),
        epoch,
        loss: 1.0 / f64::from(epoch),
        p_plus: 0.5,
        p_minus: 0.25,
        seconds: 0.1,
        held_out_spread: None,
        i_auroc: None,
        p_auroc: None,
        selected_on_test: false,
    }
}

/// A picture that JPEG cannot make small.
fn noise(width: u32, height: u32) -> Picture {
    let mut state = 1_u32;
    Picture::Image(RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, a, b, c] = state.to_be_bytes();
        image::Rgb([a, b, c])
    }))
}

#[test]
fn whatever_a_user_wrote_stays_text() {
    let evil = "</style><script>alert('x')</script>\"&";
    let category = CategoryReport {
        category: evil.into(),
        scores: vec![item(evil, ImageKind::Good, 0.1, noise(4, 4)).score],
        gallery: vec![item(evil, ImageKind::Good, 0.1, noise(4, 4))],
        training: vec![vec![epoch(1)]],
        ..Default::default()
    };
    let page = render(&RunReport {
        title: evil.into(),
        data: evil.into(),
        backbone: evil.into(),
        device: evil.into(),
        preset: evil.into(),
        finished: evil.into(),
        results: Results { rows: vec![result(evil)] },
        categories: vec![category],
        settings: vec![(evil.into(), evil.into())],
        environment: vec![(evil.into(), evil.into())],
        warnings: vec![evil.into()],
        command: evil.into(),
        ..Default::default()
    });
    assert!(!page.contains("<script") && !page.contains("alert('x')"), "unescaped text");
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let report = RunReport {
        results: Results { rows: vec![result("a")] },
        categories: vec![CategoryReport {
            category: "a".into(),
            training: vec![(1..9).map(epoch).collect()],
            gallery: vec![item("x.png", ImageKind::Good, 0.1, noise(8, 8))],
            ..Default::default()
        }],
        ..Default::default()
    };
    let page = render(&report).replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for outside in ["http:", "https:", "url(", "@import", "<link", "<script", "src=\"overlays"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn banner_and_badge_appear_when_and_only_when_due() {
    let mut report = RunReport { results: Results { rows: vec![result("a")] }, ..Default::default() };
    let page = render(&report);
    assert!(!page.contains("class=\"banner\"") && !page.contains("class=\"badge\""));
    report.results.rows[0].selected_on_test = true;
    report.synthetic = true;
    let page = render(&report);
    assert!(page.contains("class=\"banner\"") && page.contains("class=\"badge\""));
    report.results.rows[0].selected_on_test = false;
    report.selected_on_test = true;
    assert!(render(&report).contains("Selected on the test set."));
}

#[test]
fn the_comparison_appears_where_it_was_asked_for() {
    let results = Results { rows: vec![result("wood"), result("<b>")] };
    let comparison = Some(Comparison::with_paper(&results).unwrap());
    let page = render(&RunReport { results, comparison, ..Default::default() });
    // The paper has 100 for wood.
    assert!(page.contains("<th scope=\"row\">wood</th><td>99.6</td><td>100.0</td><td>−0.4</td>"), "{page}");
    assert!(page.contains("categories: &lt;b&gt;") && page.contains("best on the test set"));
    assert!(!render(&RunReport::default()).contains("Beside the paper"));
}

#[test]
fn the_summary_and_the_warnings_say_what_the_numbers_say() {
    let page = render(&RunReport { results: Results { rows: vec![result("nut")] }, ..Default::default() });
    for sentence in [
        "SimpleNet learned what a good “nut” looks like from 28 good images.",
        "On 6 good test images and 17 defective ones, its scores put 99.6\u{a0}% of the pairs",
        "rejects 1 of 6 good test images and misses 2 of 17 defective ones.",
        "Images that could not be read and were left out: nut (1).",
        "Defective images without a mask, which do not count in pixel metrics: nut (17).",
        "fewer than 20 held-out good images and is a rough guess, to be checked against parts of your own: nut (5).",
        "<td>1 of 6</td><td>2 of 17</td>",
    ] {
        assert!(page.contains(sentence), "{sentence}");
    }
    let untested = CategoryResult { category: "a".into(), train_images: 1, ..Default::default() };
    let page = render(&RunReport { results: Results { rows: vec![untested] }, ..Default::default() });
    assert!(page.contains("from 1 good image.") && page.contains("There was no test set"));
    assert!(render(&RunReport::default()).contains("No model was trained"));
}

#[test]
fn the_worst_errors_come_first() {
    let gallery = vec![
        item("good-clear", ImageKind::Good, 0.0, noise(4, 4)),
        item("found-close", ImageKind::Defective, 0.6, noise(4, 4)),
        item("false-reject", ImageKind::Good, 0.7, noise(4, 4)),
        item("missed-little", ImageKind::Defective, 0.4, noise(4, 4)),
        item("missed-much", ImageKind::Defective, 0.1, noise(4, 4)),
        item("found-clear", ImageKind::Defective, 2.0, Picture::File("/nonexistent/overlay.png".into())),
    ];
    let category = CategoryReport { category: "a".into(), gallery, ..Default::default() };
    let page = render(&RunReport { categories: vec![category], ..Default::default() });
    let order = ["missed-much", "missed-little", "false-reject", "found-close", "good-clear", "found-clear"];
    let places: Vec<usize> =
        order.iter().map(|name| page.find(&format!("<span>{name}</span>")).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("The overlay cannot be shown"), "a missing file is said, not hidden");
}

#[test]
fn a_large_run_stays_below_five_megabytes_and_says_what_it_left_out() {
    let big = noise(1100, 400);
    let category = |name: &str, count: usize| CategoryReport {
        category: name.into(),
        gallery: (0..count).map(|i| item(&format!("{i}.png"), ImageKind::Good, 0.1, big.clone())).collect(),
        ..Default::default()
    };
    let page =
        render(&RunReport { categories: vec![category("a", 14), category("b", 2)], ..Default::default() });
    assert!(page.len() < 5_000_000, "{}", page.len());
    let shown = page.matches("<figure").count();
    assert!(page.contains(&format!("{} images are left out", 16 - shown)), "{shown} shown");
    assert!(
        page[page.find("id=\"category-1\"").unwrap()..].matches("<figure").count() == 2,
        "b keeps its share"
    );
}
