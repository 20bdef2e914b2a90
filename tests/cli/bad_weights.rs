//! Weights and models that are damaged, foreign or hostile.

use std::io::Write;

use crate::world::{FAST, World, edit_metadata};

#[test]
fn weights_of_another_network_are_named() {
    let world = World::with_data();
    crate::bundle::write_synthetic_resnet18(&world, "resnet18.safetensors");
    let train = format!("train --data data {FAST} --weights resnet18.safetensors --output never");
    let words = ["resnet18.safetensors", "wrong architecture for resnet18_slim", "use --backbone resnet18"];
    world.run(&train).fails(2, &words);
    let import = "weights import resnet18.safetensors --backbone resnet34";
    world.run(import).fails(2, &["wrong architecture for resnet34", "use --backbone resnet18"]);
    // A model is no backbone.
    world.write("model.safetensors", World::trained().bytes("run/weave/model.safetensors"));
    world.run("weights import model.safetensors").fails(2, &["model.safetensors", "fits no known backbone"]);
    assert!(!world.path("never").exists() && !world.path("weights").exists());
}

#[test]
fn truncated_and_foreign_weights_are_refused() {
    let world = World::with_data();
    let whole = simplenet::backbone::weights::embedded::FILE;
    world.write("cut.safetensors", &whole[..whole.len() / 2]);
    world.write("stub.safetensors", &whole[..5]);
    world.write("empty.safetensors", "");
    world.write("text.pth", "these are not the weights you are looking for");
    let legacy = include_bytes!("../fixtures/weights/plain_legacy.pth");
    world.write("cut.pth", &legacy[..legacy.len() - 40]);
    let zipped = include_bytes!("../fixtures/weights/plain.pth");
    world.write("cut-zip.pth", &zipped[..zipped.len() / 2]);
    for file in
        ["cut.safetensors", "stub.safetensors", "empty.safetensors", "text.pth", "cut.pth", "cut-zip.pth"]
    {
        let train = format!("train --data data {FAST} --weights {file} --output never");
        world.run(&train).fails(2, &[file]);
        world.run(&format!("weights import {file}")).fails(2, &[file]);
        world.run(&format!("weights verify ./{file}")).fails(2, &[file]);
    }
    world.run("weights import data").fails(2, &["data", "check the path"]);
    world.run("weights import missing.pth").fails(2, &["missing.pth", "check the path"]);
    assert!(!world.path("never").exists() && !world.path("weights").exists());

    // In the weights folder such a file is never a reason to take another network.
    world.write("weights/wide_resnet50_2.safetensors", "rubbish");
    let auto = FAST.replace("--backbone resnet18_slim", "");
    let ran = world.run(&format!("train --data data {auto} --output never"));
    ran.fails(2, &["wide_resnet50_2.safetensors"]);
    let list = world.run("weights list").succeeds().stdout;
    assert!(list.contains("UNUSABLE"), "{list}");
}

/// `os.system("touch pwned")` as Python would unpickle it, alone and in both containers of `torch.save`.
#[test]
fn a_pickle_that_wants_to_run_code_does_not() {
    let world = World::with_data();
    let call = b"cposix\nsystem\n(S'touch pwned'\ntR.";
    world.write("bare.pth", call);
    // The legacy container: magic number, protocol 1001, system info, then the object.
    let preliminaries: [&[u8]; 3] = [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
        b"\x80\x02M\xe9\x03.",
        b"\x80\x02}X\x0d\0\0\0little_endian\x88s.",
    ];
    world.write("legacy.pth", [&preliminaries.concat()[..], b"\x80\x02", call, b"\x80\x02]."].concat());
    // The call hidden in a place that is thrown away, before an innocent state dict.
    world.write(
        "hidden.pth",
        [&preliminaries.concat()[..], b"\x80\x02", &call[..call.len() - 1], b"0}.\x80\x02]."].concat(),
    );
    let file = std::fs::File::create(world.path("zip.pth")).unwrap();
    let mut zip = zip::ZipWriter::new(file);
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in
        [("archive/data.pkl", &call[..]), ("archive/byteorder", b"little"), ("archive/version", b"3\n")]
    {
        zip.start_file(name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();

    for file in ["bare.pth", "legacy.pth", "hidden.pth", "zip.pth"] {
        for command in [
            format!("weights import {file}"),
            format!("weights verify ./{file}"),
            format!("train --data data {FAST} --weights {file} --output never"),
            format!("dump data/weave/test/good/000.png --weights {file} --output never"),
        ] {
            let ran = world.run(&command).fails(2, &[file]);
            assert!(ran.stderr.contains("posix.system") || file == "bare.pth", "{}", ran.stderr);
        }
    }
    assert!(
        !world.path("pwned").exists() && !world.path("never").exists() && !world.path("weights").exists()
    );
}

#[test]
fn damaged_models_and_models_of_another_version_are_refused() {
    let world = World::new();
    let model = World::trained().bytes("run/weave/model.safetensors");
    let image = World::trained().path("data/weave/test/good/000.png");
    let with = |edit: fn(&mut serde_json::Value)| edit_metadata(&model, edit);
    for (name, content, words) in [
        ("cut", model[..model.len() / 2].to_vec(), &["is no model of this program, or it is damaged"][..]),
        ("stub", model[..20].to_vec(), &["damaged", "train it again"]),
        ("empty", Vec::new(), &["damaged"]),
        ("text", b"a model, honestly".repeat(9), &["damaged"]),
        ("newer", with(|m| m["format"] = 2.into()), &["model format 2", "reads format 1", "train again"]),
        ("no-format", with(|m| m["format"] = "x".into()), &["damaged"]),
        ("wider", with(|m| m["head"]["hidden"] = 33.into()), &["damaged", "[33"]),
        (
            "sizes",
            with(|m| m["settings"]["features"]["preprocess"]["crop"] = 0.into()),
            &["the network's input is 0 pixels"],
        ),
        ("field", with(|m| m["settings"]["surprise"] = 1.into()), &["damaged", "surprise"]),
        ("weights", simplenet::backbone::weights::embedded::FILE.to_vec(), &["is no model of this program"]),
    ] {
        let file = format!("{name}.safetensors");
        world.write(&file, &content);
        let words: Vec<&str> = words.iter().copied().chain([file.as_str()]).collect();
        world.run(&format!("predict --model {file} {}", image.display())).fails(2, &words);
        world.run(&format!("threshold --model {file} --set 1")).fails(2, &words);
        world
            .run(&format!("test --model {file} --data {}", World::trained().path("data").display()))
            .fails(2, &words);
        assert!(world.bytes(&file) == content, "{file} was changed");
    }
    assert!(!world.path("runs").exists());
    world.assert_clean();
}
