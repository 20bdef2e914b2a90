//! What `build.rs` makes of the kernels' signatures.

#[path = "../build/launchers.rs"]
mod launchers;

fn generate(text: &str) -> Result<String, String> {
    launchers::generate(&[("sample".to_owned(), text.to_owned())])
}

const SCALE: &str = r#"
// Multiplies.
// Threads: one an element.
extern "C" __global__ void __launch_bounds__(256) scale(const unsigned char* __restrict__ input,
                                                        float* __restrict__ out, Factors factors,
                                                        unsigned long long count) {
}
"#;

#[test]
fn names_types_order_and_comments_are_the_kernels_own() {
    let source = generate(SCALE).unwrap();
    let fields = "    pub(crate) input: In<'a, u8>,\n    pub(crate) out: Out<'a, f32>,\n    \
                  pub(crate) factors: super::super::sample::Factors,\n    pub(crate) count: u64,\n";
    for expected in
        [fields, "/// Threads: one an element.\n", "pub(crate) struct Scale<'a> {", "(0, \"scale\")"]
    {
        assert!(source.contains(expected), "{expected} is not in\n{source}");
    }
    let places = ["self.input.argument()", "self.out.argument()", "const self.factors", "const self.count"];
    let found: Vec<usize> = places.iter().map(|place| source.find(place).unwrap()).collect();
    assert!(found.is_sorted(), "{source}");
}

#[test]
fn twins_for_float_and_half_become_one_generic_kernel() {
    let twin = |name: &str, element: &str| {
        format!(
            "extern \"C\" __global__ void pool_{name}(const {element}* input, float* sums, unsigned width) {{\n}}\n"
        )
    };
    let source = generate(&(twin("f32", "float") + &twin("f16", "__half"))).unwrap();
    for expected in [
        "pub(crate) struct Pool<'a, T> {\n    pub(crate) input: In<'a, T>,\n    pub(crate) sums: Out<'a, f32>,",
        "impl<T: Element> Kernel for Pool<'_, T>",
        "0 + T::VARIANT",
        "    (0, \"pool_f32\"),\n    (0, \"pool_f16\"),\n",
    ] {
        assert!(source.contains(expected), "{expected} is not in\n{source}");
    }
    let differs = twin("f32", "float") + &twin("f16", "__half").replace("width", "height");
    assert!(generate(&differs).unwrap_err().contains("pool_f32 and pool_f16"));
}

#[test]
fn what_no_launch_could_pass_is_refused_with_its_place() {
    for (parameter, problem) in [
        ("int* out", "`int` is no type"),
        ("float x[4]", ""),
        ("const long* input", "`long` is no type"),
        ("unsigned", "has no name"),
    ] {
        let text = format!("extern \"C\" __global__ void bad({parameter}) {{\n}}\n");
        match generate(&text) {
            Err(message) => {
                assert!(message.starts_with("kernels/sample.cu: kernel bad: "), "{message}");
                assert!(message.contains(problem), "{message}");
            }
            Ok(source) => panic!("{parameter} was taken for\n{source}"),
        }
    }
}
