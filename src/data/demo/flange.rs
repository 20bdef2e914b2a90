//! A machined part: a turned steel flange with a hub, a bore and six countersunk holes, on a dark mat; scratches
//! and chips.

use super::camera::{Light, Scene, blend, scaled};
use super::geometry::{Vec2, bell, smoothstep};
use super::noise::{Draws, Field};
use super::outline::{Blob, Stroke};

/// Radii of the turned part from outside in, in pixels.
const RIM: f64 = 98.0;
const RIM_CHAMFER: f64 = 94.5;
const GROOVE: f64 = 86.0;
const HUB_FOOT: f64 = 43.0;
const HUB_TOP: f64 = 39.0;
const BORE_CHAMFER: f64 = 24.5;
const BORE: f64 = 22.0;

/// The bolt holes: how many, on which circle, and their radii.
const HOLES: usize = 6;
const HOLE_CIRCLE: f64 = 65.0;
const COUNTERSINK: f64 = 11.0;
const HOLE: f64 = 7.5;

const STEEL: Light = [0.54, 0.555, 0.58];
const FRACTURE: Light = [0.48, 0.478, 0.48];
const MAT: Light = [0.030, 0.036, 0.034];

/// One part under the camera.
pub(super) struct Flange {
    field: Field,
    centre: Vec2,
    scale: f64,
    holes: Vec<Vec2>,
    key: Vec2,
    lamp: Vec2,
    second_lamp: Vec2,
    tarnish: f64,
    defect: Option<FlangeDefect>,
}

/// A point of the part's frame (pixels from its centre), and what is near it.
struct Spot {
    p: Vec2,
    radius: f64,
    /// From the middle of the nearest bolt hole, and the distance from that hole's wall.
    from_hole: Vec2,
    hole_wall: f64,
    /// How far inside the metal the point lies; negative where there is none.
    depth: f64,
}

/// What can be wrong with the part. Places are in the part's frame: pixels from its centre.
enum FlangeDefect {
    /// Something hard was drawn over the face.
    Scratch { strokes: Vec<(Stroke, f64)> },
    /// A piece has broken off an edge; `gone` is the share of the chip's radius within which no metal is left.
    Chip { blob: Blob, gone: f64 },
}

impl FlangeDefect {
    /// One to three scratches side by side, 26 to 70 pixels long, on the face between hub and rim.
    fn scratch(draws: &mut Draws) -> Self {
        let heading = draws.range(0.0, 1.0);
        let middle = Vec2::unit(draws.range(0.0, 1.0)) * draws.range(50.0, 78.0);
        let length = draws.range(26.0, 70.0);
        let count = 1 + draws.below(3);
        let strokes = (0..count)
            .map(|_| {
                let axis = Vec2::unit(heading + draws.range(-0.015, 0.015));
                let shift = axis.perpendicular() * draws.range(-5.0, 5.0) + axis * draws.range(-6.0, 6.0);
                let half = axis * (length * draws.range(0.35, 0.5));
                let bend = axis.perpendicular() * (length * draws.range(-0.15, 0.15));
                let centre = middle + shift;
                let stroke = Stroke::new(centre - half, centre + bend, centre + half, draws.range(0.6, 1.1));
                (stroke, draws.range(0.7, 1.0))
            })
            .collect();
        Self::Scratch { strokes }
    }

    /// A chip of 8 to 13 pixels' radius at the rim, the bore or a hole of this part.
    fn chip(draws: &mut Draws, holes: &[Vec2]) -> Self {
        let direction = Vec2::unit(draws.range(0.0, 1.0));
        let hole = draws.below(holes.len());
        let centre = match draws.below(5) {
            0..=2 => direction * RIM,
            3 => direction * BORE,
            _ => holes[hole] + direction * HOLE,
        };
        let radius = draws.range(8.0, 13.0);
        Self::Chip { blob: Blob::new(draws, centre, radius, 0.55), gone: draws.range(0.35, 0.6) }
    }
}

/// Which defect a part shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Damage {
    Scratch,
    Chip,
}

impl Flange {
    /// The part seen in one image; a damage's place and form come from `defect_draws`.
    pub(super) fn new(draws: &mut Draws, damage: Option<(Damage, Draws)>) -> Self {
        let turn = draws.range(-0.005, 0.005);
        let holes: Vec<Vec2> =
            (0..HOLES).map(|k| Vec2::unit(turn + (k as f64 + 0.5) / HOLES as f64) * HOLE_CIRCLE).collect();
        let lamp = -0.155 + draws.range(-0.008, 0.008);
        Self {
            field: draws.field(),
            centre: Vec2::new(128.0 + draws.range(-2.0, 2.0), 128.0 + draws.range(-2.0, 2.0)),
            scale: 1.0 + draws.range(-0.008, 0.008),
            key: Vec2::unit(turn - 0.25),
            lamp: Vec2::unit(lamp),
            second_lamp: Vec2::unit(lamp + 0.21),
            tarnish: draws.range(0.03, 0.09),
            defect: damage.map(|(damage, mut draws)| match damage {
                Damage::Scratch => FlangeDefect::scratch(&mut draws),
                Damage::Chip => FlangeDefect::chip(&mut draws, &holes),
            }),
            holes,
        }
    }

    /// What lies at a point given in the part's frame.
    fn spot(&self, p: Vec2) -> Spot {
        let mut from_hole = p - self.holes[0];
        for &hole in &self.holes[1..] {
            let offset = p - hole;
            if offset.dot(offset) < from_hole.dot(from_hole) {
                from_hole = offset;
            }
        }
        let (radius, hole_wall) = (p.length(), from_hole.length() - HOLE);
        let mut bore_wall = radius - BORE;
        if radius < HUB_TOP {
            // The key seat: a slot 10 pixels wide that reaches 6 beyond the bore.
            let key = p.in_frame(self.key);
            if key.x > 0.0 {
                bore_wall = bore_wall.min((key.y.abs() - 5.0).max(key.x - BORE - 6.0));
            }
        }
        Spot { p, radius, from_hole, hole_wall, depth: hole_wall.min(bore_wall).min(RIM - radius) }
    }

    /// The mat, with the part's shadow on it.
    fn mat(&self, at: Vec2, spot: &Spot) -> Light {
        let towards_lamp = spot.p + self.lamp * 7.0;
        let lit = if spot.radius > RIM {
            1.0 - 0.75 * smoothstep(RIM + 10.0, RIM - 4.0, towards_lamp.length())
        } else {
            0.4 + 0.5 * smoothstep(-2.0, 9.0, -self.spot(towards_lamp).depth)
        };
        let weave =
            self.field.cloud(20, at.x / 2.2, at.y / 2.2) + 0.5 * self.field.at(24, at.x / 30.0, at.y / 30.0);
        scaled(MAT, (1.0 + 0.25 * weave) * lit)
    }

    /// Light off a machined flat: turning marks are fine circles, so it shines along the directions to the lamps.
    fn turned(&self, &Spot { p, radius, .. }: &Spot, coarse: f64) -> Light {
        let tangent = p.perpendicular() * (1.0 / radius);
        let ray = p * (6.0 / radius);
        let marks = self.field.at(30, radius * 1.15 * coarse, 0.7 * ray.x + 3.1)
            + 0.7 * self.field.at(31, radius * 0.45 * coarse, 0.5 * ray.y + 7.7);
        let lobe = |lamp: Vec2, width: f64| bell(tangent.dot(lamp) + 0.03 * marks, width);
        let shine = 0.23 + 0.60 * lobe(self.lamp, 0.33) + 0.22 * lobe(self.second_lamp, 0.22);
        let tarnish = self.field.cloud(33, p.x / 26.0 + 50.0, p.y / 26.0 + 50.0);
        scaled(STEEL, shine * (1.0 + 0.13 * marks + self.tarnish * tarnish))
    }

    /// Light off a smooth slope that faces `outward` (a unit vector in the image plane).
    fn slope(&self, outward: Vec2, steepness: f64) -> Light {
        let facing = outward.dot(self.lamp) * steepness;
        let glint = bell(facing - 0.62 * steepness, 0.28);
        scaled(STEEL, (0.38 + 0.30 * facing + 0.65 * glint * facing.max(0.0)).max(0.05))
    }

    /// The undamaged metal at a point that has metal.
    fn metal(&self, spot: &Spot) -> Light {
        let &Spot { p, radius, from_hole, hole_wall, .. } = spot;
        let outward = p * (1.0 / radius);
        if hole_wall < COUNTERSINK - HOLE {
            return self.slope(from_hole * (-1.0 / (hole_wall + HOLE)), 0.8);
        }
        let burr = bell(hole_wall - (COUNTERSINK - HOLE), 0.7);
        let face = if radius > RIM_CHAMFER {
            self.slope(outward, 0.9)
        } else if radius > HUB_FOOT {
            let groove = smoothstep(1.8, 1.2, (radius - GROOVE).abs());
            let wall = self.slope(outward * (GROOVE - radius).signum(), 0.9);
            blend(self.turned(spot, 1.0), scaled(wall, 0.55), groove)
        } else if radius > HUB_TOP {
            self.slope(outward, 0.95)
        } else if radius > BORE_CHAMFER {
            scaled(self.turned(spot, 0.6), 1.12)
        } else {
            self.slope(outward * -1.0, 0.8)
        };
        // Edges are burnished by handling; the foot of the hub lies in its own shadow.
        let edge =
            bell(radius - RIM_CHAMFER, 0.6) + bell(radius - HUB_TOP, 0.6) + bell(radius - BORE_CHAMFER, 0.5);
        let foot = if radius > HUB_FOOT { 0.35 * smoothstep(7.0, 0.0, radius - HUB_FOOT) } else { 0.0 };
        blend(scaled(face, 1.0 - foot), scaled(STEEL, 0.85), 0.35 * (edge + burr).min(1.0))
    }

    /// The part and the mat without damage.
    fn sound(&self, at: Vec2, spot: &Spot) -> Light {
        if spot.depth < 0.0 { self.mat(at, spot) } else { self.metal(spot) }
    }

    /// A scratch: a bright floor of bare metal, and beside it the burr's shadow.
    fn scratched(&self, p: Vec2, mut light: Light, strokes: &[(Stroke, f64)]) -> Light {
        for (stroke, strength) in strokes {
            if let Some(beside) = stroke.beside(p) {
                // The tool lands, skips and lifts: its pressure changes along the way.
                let lifted = smoothstep(0.0, 0.25, beside.along) * smoothstep(1.0, 0.75, beside.along);
                let pressure =
                    strength * lifted * (0.85 + 0.35 * self.field.at(40, beside.along * 9.0, 0.3)).min(1.0);
                let floor = pressure * smoothstep(1.2, 0.7, beside.across.abs());
                let burr =
                    pressure * smoothstep(0.7, 1.1, beside.across) * smoothstep(2.2, 1.5, beside.across);
                light = blend(scaled(light, 1.0 - 0.6 * burr), scaled(STEEL, 1.45), 0.9 * floor);
            }
        }
        light
    }

    /// A chip: next to the edge the metal is gone; around that the fracture is rough, dull and steep.
    fn chipped(&self, at: Vec2, spot: &Spot, chip: &Blob, gone: f64) -> Light {
        let p = spot.p;
        let level = chip.level(&self.field, p);
        if spot.depth < 0.0 {
            return self.mat(at, spot);
        }
        if level > 1.0 {
            // The broken edge of the face catches light.
            return blend(self.metal(spot), scaled(STEEL, 0.9), 0.5 * smoothstep(1.16, 1.02, level));
        }
        if level < gone * (1.0 + 0.3 * self.field.at(45, p.x / 2.0, p.y / 2.0)) {
            return scaled(MAT, 0.3);
        }
        let relief = |p: Vec2| self.field.cloud(46, p.x / 4.5, p.y / 4.5);
        let here = relief(p);
        let tilt = Vec2::new(relief(p + Vec2::new(1.0, 0.0)) - here, relief(p + Vec2::new(0.0, 1.0)) - here);
        let crystal = self.field.at(52, p.x * 0.9, p.y * 0.9);
        let shade = 0.15 + 0.9 * tilt.dot(self.lamp) + 0.07 * crystal + 0.06 * level;
        scaled(FRACTURE, shade.clamp(0.03, 0.8))
    }
}

impl Scene for Flange {
    fn light(&self, at: Vec2) -> Light {
        let spot = self.spot((at - self.centre) * (1.0 / self.scale));
        match &self.defect {
            Some(FlangeDefect::Scratch { strokes }) if spot.depth >= 0.0 => {
                self.scratched(spot.p, self.metal(&spot), strokes)
            }
            Some(FlangeDefect::Chip { blob, gone }) => self.chipped(at, &spot, blob, *gone),
            _ => self.sound(at, &spot),
        }
    }
}
