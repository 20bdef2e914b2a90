//! Woven cloth: a 2/1 twill of blue warp over pale weft, as of jeans; cuts and stains.

use super::camera::{Light, Scene, blend, scaled};
use super::geometry::{Vec2, bell, mix, smoothstep};
use super::noise::{Draws, Field, floor};
use super::outline::Blob;

/// Distance between warp yarns and between weft yarns, in pixels.
const WARP_PITCH: f64 = 5.4;
const WEFT_PITCH: f64 = 5.9;

/// Dyed warp, undyed weft, and the dark between them.
const WARP: Light = [0.095, 0.165, 0.31];
const WEFT: Light = [0.50, 0.50, 0.47];
const GAP: Light = [0.012, 0.014, 0.02];

/// A piece of the cloth under the camera.
pub(super) struct Fabric {
    field: Field,
    warp_axis: Vec2,
    origin: Vec2,
    light: Vec2,
    fade: f64,
    defect: Option<FabricDefect>,
}

/// What can be wrong with the cloth.
pub(super) enum FabricDefect {
    /// The yarns are severed along a line and have drawn apart.
    Cut { centre: Vec2, axis: Vec2, half_length: f64, half_width: f64 },
    /// A liquid has dried in the cloth, darker at its rim.
    Stain { blob: Blob, dye: Light, strength: f64 },
}

impl FabricDefect {
    /// A cut of 20 to 52 pixels' length, anywhere that the usual centre crop keeps.
    pub(super) fn cut(draws: &mut Draws) -> Self {
        Self::Cut {
            centre: place(draws),
            axis: Vec2::unit(draws.range(0.0, 1.0)),
            half_length: draws.range(10.0, 26.0),
            half_width: draws.range(2.4, 4.8),
        }
    }

    /// A stain of 9 to 24 pixels' radius, of oil, coffee or rust.
    pub(super) fn stain(draws: &mut Draws) -> Self {
        const DYES: [Light; 3] = [[0.30, 0.28, 0.24], [0.62, 0.40, 0.20], [0.95, 0.42, 0.16]];
        let (centre, radius) = (place(draws), draws.range(9.0, 24.0));
        Self::Stain {
            blob: Blob::new(draws, centre, radius, 0.55),
            dye: DYES[draws.below(DYES.len())],
            strength: draws.range(0.6, 1.0),
        }
    }
}

/// The middle of a defect.
fn place(draws: &mut Draws) -> Vec2 {
    Vec2::new(draws.range(56.0, 200.0), draws.range(56.0, 200.0))
}

impl Fabric {
    /// The piece of cloth seen in one image.
    pub(super) fn new(draws: &mut Draws, defect: Option<FabricDefect>) -> Self {
        Self {
            field: draws.field(),
            warp_axis: Vec2::unit(draws.range(-0.006, 0.006)),
            origin: Vec2::new(draws.range(0.0, 400.0), draws.range(0.0, 400.0)),
            light: Vec2::new(-0.5 + draws.range(-0.08, 0.08), -0.35 + draws.range(-0.08, 0.08)),
            fade: draws.range(0.0, 0.12),
            defect,
        }
    }

    /// The undamaged cloth at a point.
    fn cloth(&self, at: Vec2) -> Light {
        let p = at.in_frame(self.warp_axis) + self.origin;
        let noise = |layer, x, y| self.field.at(layer, x, y);
        // In yarns: slow waves of the whole cloth, and every yarn a little off its place.
        let wave = Vec2::new(noise(0, p.x / 60.0, p.y / 60.0), noise(1, p.x / 60.0, p.y / 60.0)) * 0.25;
        let a = p.x / WARP_PITCH + wave.x + 0.16 * noise(2, p.x / WARP_PITCH / 1.7, p.y / 37.0);
        let b = p.y / WEFT_PITCH + wave.y + 0.16 * noise(3, p.y / WEFT_PITCH / 1.7, p.x / 37.0);
        let (warp, weft) = (floor(a), floor(b));
        let (i, j) = (f64::from(warp), f64::from(weft));
        let (s, t) = (2.0 * (a - i) - 1.0, 2.0 * (b - j) - 1.0);

        // A yarn rises and dives between the crossings: its height is joined smoothly from crossing to crossing.
        let here = warp_is_above(warp, weft);
        let beyond_weft = warp_is_above(warp, if t < 0.0 { weft - 1 } else { weft + 1 });
        let beyond_warp = warp_is_above(if s < 0.0 { warp - 1 } else { warp + 1 }, weft);
        let join = |v: f64| smoothstep(0.0, 2.0, v.abs());
        let warp_lift = mix(here, beyond_weft, join(t));
        let weft_lift = -mix(here, beyond_warp, join(s));
        let warp_width = 0.93 + 0.10 * noise(4, i * 0.77, b / 9.0);
        let weft_width = 0.93 + 0.12 * noise(5, a / 9.0, j * 0.77);
        let round = |offset: f64, width: f64| (1.0 - (offset / width) * (offset / width)).max(0.0).sqrt();
        let (warp_round, weft_round) = (round(s, warp_width), round(t, weft_width));
        let warp_height = if warp_round > 0.0 { 0.5 * warp_lift + warp_round } else { -2.0 };
        let weft_height = if weft_round > 0.0 { 0.5 * weft_lift + weft_round } else { -2.0 };

        if warp_height.max(weft_height) < -1.0 {
            return GAP;
        }
        let warp_on_top = warp_height > weft_height;
        let (colour, normal, twist, tone) = if warp_on_top {
            let slope = (here - beyond_weft) * t * 0.35;
            let twist = noise(6, 1.9 * s - 1.1 * p.y + 13.0 * i, 0.22 * p.y);
            (WARP, Vec2::new(0.75 * s, slope), twist, noise(7, i * 0.83, b / 14.0))
        } else {
            let slope = (beyond_warp - here) * s * 0.35;
            let twist = noise(8, 1.9 * t - 1.1 * p.x + 13.0 * j, 0.22 * p.x);
            (WEFT, Vec2::new(slope, 0.75 * t), twist, noise(9, a / 14.0, j * 0.83))
        };
        // The warp's dye wears off where it stands highest, more so on a faded piece.
        let wear = (self.fade + 0.10) * smoothstep(0.7, 1.5, warp_height) * f64::from(u8::from(warp_on_top));
        let colour = blend(colour, WEFT, wear);
        let lit = (normal.dot(self.light) + 0.8) / (1.0 + normal.dot(normal)).sqrt();
        let shade =
            (0.22 + 0.95 * lit.max(0.0)) * mix(0.42, 1.0, smoothstep(0.0, 1.2, warp_height.max(weft_height)));
        let cloud = noise(10, p.x / 30.0, p.y / 30.0);
        scaled(colour, shade * (1.0 + 0.16 * twist + 0.13 * tone + 0.06 * cloud))
    }

    /// The cloth with a cut: the yarns stand beside the opening that used to be in it, the severed ends frayed.
    fn cut(&self, at: Vec2, centre: Vec2, axis: Vec2, half_length: f64, half_width: f64) -> Light {
        let local = (at - centre).in_frame(axis);
        let reach = (1.0 - (local.x / half_length) * (local.x / half_length)).max(0.0);
        // The opening wavers, as a hand does.
        let waver = 1.6 * self.field.at(12, local.x / 9.0, 0.5) * reach;
        let across = local.y - waver;
        let opening = half_width * reach * (1.0 + 0.3 * self.field.at(13, local.x / 5.0, 0.5));
        let beyond = across.abs() - opening;
        let side = across.signum();
        if beyond > 0.0 {
            // The yarns' way back to where they lay: all of the opening at its edge, less and less further off.
            let back = opening * smoothstep(2.5 * half_width, 0.0, beyond);
            let rest = centre + axis * local.x + axis.perpendicular() * (local.y - side * back);
            // The edges curl up: one catches the light, the other throws a shadow.
            let curl =
                (axis.perpendicular() * side).dot(self.light) * reach.sqrt() * bell(beyond, 0.7 * half_width);
            let fuzz =
                self.field.at(14, local.x * 1.1, across * 0.9).max(0.0) * bell(beyond, 1.5) * reach.sqrt();
            return blend(scaled(self.cloth(rest), 1.0 - 0.9 * curl), scaled(WEFT, 0.85), fuzz);
        }
        // Below: what lies under the cloth, in shadow, crossed by loose fibres.
        let fibre = |layer: u32, lean: f64| {
            let strand = self.field.at(layer, (local.x + lean * across) * 0.9, side + 0.15 * across);
            let length = 0.55 + 0.45 * self.field.at(layer + 1, local.x * 0.9, side);
            smoothstep(0.35, 0.6, strand) * smoothstep(length, length - 0.3, -beyond / opening.max(0.5))
        };
        let shadow = scaled(GAP, 1.0 + 0.8 * self.field.at(19, local.x / 2.0, across / 2.0));
        blend(shadow, scaled(WEFT, 0.62), fibre(15, 0.4).max(fibre(17, -0.7)))
    }
}

/// The weave: a warp yarn passes over two weft yarns and under the third, each yarn one further than its neighbour.
/// +1 where the warp is above, −1 where the weft is.
fn warp_is_above(warp: i32, weft: i32) -> f64 {
    if (warp + weft).rem_euclid(3) == 0 { -1.0 } else { 1.0 }
}

impl Scene for Fabric {
    fn light(&self, at: Vec2) -> Light {
        match &self.defect {
            None => self.cloth(at),
            &Some(FabricDefect::Cut { centre, axis, half_length, half_width }) => {
                self.cut(at, centre, axis, half_length, half_width)
            }
            Some(FabricDefect::Stain { blob, dye, strength }) => {
                let level = blob.level(&self.field, at);
                // Capillaries draw the liquid along the yarns, so the edge is soft; most of the dye dries there.
                let soaked = smoothstep(1.12, 0.88, level);
                let rim = 0.3 * bell(level - 0.9, 0.12);
                let taken =
                    soaked * strength * (0.72 + rim + 0.15 * self.field.cloud(26, at.x / 8.0, at.y / 8.0));
                let cloth = self.cloth(at);
                blend(cloth, [0, 1, 2].map(|i| cloth[i] * dye[i]), taken.clamp(0.0, 1.0))
            }
        }
    }
}
