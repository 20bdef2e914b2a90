//! Configuration files.

use crate::world::World;

#[test]
fn settings_come_from_a_file_that_show_config_writes() {
    let world = World::with_data();
    let shown =
        world.run("train --size 64 --hidden 32 --epochs 3 --preset official --show-config").succeeds();
    assert!(shown.stdout.contains("epochs = 3  # preset: 160"), "{}", shown.stdout);
    world.write("part.toml", shown.stdout.replace("\"auto\"", "\"resnet18_slim\""));
    world.run("train --data data --config part.toml --epochs 2 --output run").succeeds();
    let spec = &world.json("run/run.json")["spec"];
    assert_eq!(spec["settings"]["preset"], "official");
    assert_eq!(spec["settings"]["training"]["epochs"], 2);
    assert_eq!(spec["settings"]["training"]["hidden"], 32);
    assert_eq!(spec["backbone"], "resnet18_slim");
    // Its values are all of the preset that it names.
    let words = ["--preset paper contradicts", "official"];
    world.run("train --data data --config part.toml --preset paper --output never").fails(2, &words);
    world.write("part.toml", "hiden = 3\n");
    let words = ["part.toml", "there is no setting `hiden`", "did you mean `hidden`"];
    world.run("train --data data --config part.toml --output never").fails(2, &words);
    assert!(!world.path("never").exists());
}
