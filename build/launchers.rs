//! Reads the signatures of the kernels and writes one Rust struct for each, so that no launch can get an argument's
//! name, type or place wrong: the compiler compares it with the CUDA source.
//!
//! ```text
//! extern "C" __global__ void leaky_relu(const float* __restrict__ input, float* __restrict__ out, u64 count)
//! struct LeakyRelu<'a> { input: In<'a, f32>, out: Out<'a, f32>, count: u64 }
//! ```
//!
//! Kernels `x_f32` and `x_f16` that differ by `float` and `__half` behind some pointers become one `X<'a, T>`.

use std::fmt::Write;

/// A kernel as its source declares it.
#[derive(Clone, Debug)]
struct Signature {
    name: String,
    file: usize,
    documentation: Vec<String>,
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq)]
struct Parameter {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// `const T*`
    Read(Element),
    /// `T*`
    Write(Element),
    /// A Rust type passed by value.
    Value(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Element {
    Plain(&'static str),
    /// `f32` in one kernel and `f16` in its twin.
    Generic,
}

impl Element {
    fn rust(self) -> &'static str {
        match self {
            Element::Plain(name) => name,
            Element::Generic => "T",
        }
    }
}

/// The Rust source for the kernels of `files`, given as (stem, text), in the order of the images.
///
/// # Errors
/// A sentence about the first signature that is not understood.
pub(crate) fn generate(files: &[(String, String)]) -> Result<String, String> {
    let mut signatures = Vec::new();
    for (file, (stem, text)) in files.iter().enumerate() {
        parse(file, stem, text, &mut signatures)
            .map_err(|problem| format!("kernels/{stem}.cu: {problem}"))?;
    }
    let mut out = String::new();
    let mut functions = String::new();
    let mut slot = 0;
    let mut done: Vec<String> = Vec::new();
    for signature in &signatures {
        if done.contains(&signature.name) {
            continue;
        }
        let twin = signature.name.strip_suffix("_f32").and_then(|base| {
            let twin = signatures.iter().find(|other| other.name == format!("{base}_f16"))?;
            Some((base.to_owned(), twin))
        });
        match twin {
            Some((base, twin)) => {
                let generic = unite(signature, twin)?;
                emit(&mut out, &base, &generic, slot, true);
                for name in [&signature.name, &twin.name] {
                    writeln!(functions, "    ({}, {name:?}),", signature.file).expect("a String");
                }
                done.push(twin.name.clone());
                slot += 2;
            }
            None => {
                emit(&mut out, &signature.name, signature, slot, false);
                writeln!(functions, "    ({}, {:?}),", signature.file, signature.name).expect("a String");
                slot += 1;
            }
        }
    }
    writeln!(
        out,
        "/// Every kernel: the index of its file's image, and its name there.\n\
         pub(crate) static FUNCTIONS: &[(usize, &str)] = &[\n{functions}];"
    )
    .expect("a String");
    Ok(out)
}

/// Collects every `extern "C" __global__` of one file.
fn parse(file: usize, stem: &str, text: &str, into: &mut Vec<Signature>) -> Result<(), String> {
    const MARK: &str = "extern \"C\" __global__";
    let mut documentation: Vec<String> = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some(comment) = line.trim_end().strip_prefix("//") {
            documentation.push(comment.trim().to_owned());
        } else if line.starts_with(MARK) {
            let declaration = &text[offset + MARK.len()..];
            let mut signature = parse_declaration(stem, declaration)?;
            signature.file = file;
            signature.documentation = std::mem::take(&mut documentation);
            into.push(signature);
        } else {
            documentation.clear();
        }
        offset += line.len();
    }
    Ok(())
}

/// `void __launch_bounds__(256) name(const float* __restrict__ input, unsigned count) {…`
fn parse_declaration(stem: &str, text: &str) -> Result<Signature, String> {
    let text = text.trim_start().strip_prefix("void").ok_or("a kernel returns void")?.trim_start();
    let text = match text.strip_prefix("__launch_bounds__(") {
        Some(rest) => rest.split_once(')').ok_or("unclosed __launch_bounds__")?.1,
        None => text,
    };
    let (name, rest) = text.split_once('(').ok_or("a kernel has parameters")?;
    let (list, _) = rest.split_once(')').ok_or("unclosed parameter list")?;
    let name = name.trim().to_owned();
    let parameters = list
        .split(',')
        .map(|parameter| {
            parse_parameter(stem, parameter).map_err(|problem| format!("kernel {name}: {problem}"))
        })
        .collect::<Result<_, _>>()?;
    Ok(Signature { name, file: 0, documentation: Vec::new(), parameters })
}

fn parse_parameter(stem: &str, text: &str) -> Result<Parameter, String> {
    let text = text.replace("__restrict__", " ");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (kind, name) = match text.rsplit_once('*') {
        Some((pointee, name)) => {
            let pointee = pointee.trim();
            let kind = match pointee.strip_prefix("const ") {
                Some(element) => Kind::Read(Element::Plain(scalar(element)?)),
                None => Kind::Write(Element::Plain(scalar(pointee)?)),
            };
            (kind, name.trim())
        }
        None => {
            let (kind, name) = text.rsplit_once(' ').ok_or_else(|| format!("`{text}` has no name"))?;
            let kind = scalar(kind).map(str::to_owned).or_else(|problem| {
                let structure = kind.chars().next().is_some_and(char::is_uppercase);
                if structure { Ok(format!("super::super::{stem}::{kind}")) } else { Err(problem) }
            });
            (Kind::Value(kind?), name)
        }
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("`{text}` has no plain name"));
    }
    Ok(Parameter { name: name.to_owned(), kind })
}

/// The Rust name of a C++ scalar.
fn scalar(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "float" => "f32",
        "double" => "f64",
        "__half" => "half::f16",
        "unsigned char" => "u8",
        "unsigned" => "u32",
        "u64" | "unsigned long long" => "u64",
        other => return Err(format!("`{other}` is no type of a kernel's parameter")),
    })
}

/// The generic signature of a kernel for `float` and its twin for `__half`.
fn unite(single: &Signature, half: &Signature) -> Result<Signature, String> {
    let refuse = || format!("{} and {} differ by more than their element type", single.name, half.name);
    if single.parameters.len() != half.parameters.len() || single.file != half.file {
        return Err(refuse());
    }
    let unite_element = |a: Element, b: Element| match (a, b) {
        (Element::Plain("f32"), Element::Plain("half::f16")) => Some(Element::Generic),
        (a, b) => (a == b).then_some(a),
    };
    let mut generic = single.clone();
    for (parameter, twin) in generic.parameters.iter_mut().zip(&half.parameters) {
        let kind = match (&parameter.kind, &twin.kind) {
            (&Kind::Read(a), &Kind::Read(b)) => unite_element(a, b).map(Kind::Read),
            (&Kind::Write(a), &Kind::Write(b)) => unite_element(a, b).map(Kind::Write),
            (a, b) => (a == b).then(|| a.clone()),
        };
        parameter.kind = kind.filter(|_| parameter.name == twin.name).ok_or_else(refuse)?;
    }
    Ok(generic)
}

/// `max_pool2d` → `MaxPool2d`.
fn camel(name: &str) -> String {
    name.split('_')
        .flat_map(|word| word.chars().take(1).map(|c| c.to_ascii_uppercase()).chain(word.chars().skip(1)))
        .collect()
}

fn emit(out: &mut String, name: &str, signature: &Signature, slot: usize, generic: bool) {
    let structure = camel(name);
    let borrows = signature.parameters.iter().any(|parameter| !matches!(parameter.kind, Kind::Value(_)));
    let (declared, bound, implemented) = match (generic, borrows) {
        (true, _) => ("<'a, T>", "<T: Element>", "<'_, T>"),
        (false, true) => ("<'a>", "", "<'_>"),
        (false, false) => ("", "", ""),
    };
    let count = signature.parameters.len();
    let mut text = format!("/// The arguments of `{name}`.\n///\n");
    for line in &signature.documentation {
        writeln!(text, "/// {line}").expect("a String");
    }
    writeln!(text, "pub(crate) struct {structure}{declared} {{").expect("a String");
    for Parameter { name, kind } in &signature.parameters {
        let kind = match kind {
            Kind::Read(element) => format!("In<'a, {}>", element.rust()),
            Kind::Write(element) => format!("Out<'a, {}>", element.rust()),
            Kind::Value(value) => value.clone(),
        };
        writeln!(text, "    pub(crate) {name}: {kind},").expect("a String");
    }
    let variant = if generic { " + T::VARIANT" } else { "" };
    let arguments: Vec<String> = signature
        .parameters
        .iter()
        .map(|Parameter { name, kind }| match kind {
            Kind::Value(_) => format!("            (&raw const self.{name}).cast_mut().cast(),"),
            _ => format!("            self.{name}.argument(),"),
        })
        .collect();
    writeln!(
        text,
        "}}\n\n\
         impl{bound} Kernel for {structure}{implemented} {{\n    \
             type Arguments = [*mut std::ffi::c_void; {count}];\n\n    \
             fn function() -> usize {{\n        {slot}{variant}\n    }}\n\n    \
             fn arguments(&self) -> Self::Arguments {{\n        [\n{}\n        ]\n    }}\n\
         }}\n",
        arguments.join("\n")
    )
    .expect("a String");
    out.push_str(&text);
}
