//! Adam's state for every parameter of a head.

use crate::backend::{AdamRule, AdamSlot, Backend, DeviceTensor, Result};
use crate::head::Head;
use crate::tensor_file::NamedTensors;

/// The moments, and how each parameter is updated.
#[derive(Debug)]
pub struct Optimizer<B: Backend> {
    first: Vec<B::Tensor>,
    second: Vec<B::Tensor>,
    rules: Vec<AdamRule>,
}

impl<B: Backend> Optimizer<B> {
    /// Zero moments for every parameter of `head`.
    pub fn new(backend: &B, head: &Head<B>, adaptor: AdamRule, discriminator: AdamRule) -> Result<Self> {
        let zeros =
            || head.parameters().iter().map(|p| backend.zeros(p.value.shape())).collect::<Result<_>>();
        let rules =
            head.parameters().iter().map(|p| head.config().rule(p.name, adaptor, discriminator)).collect();
        Ok(Self { first: zeros()?, second: zeros()?, rules })
    }

    /// The schedule's present step of every parameter. `gradients` are in the order of the head's parameters.
    pub fn step(
        &mut self,
        backend: &B,
        head: &mut Head<B>,
        gradients: &[Option<B::Tensor>],
        schedule: &B::Schedule,
    ) -> Result<()> {
        let mut slots: Vec<AdamSlot<'_, B::Tensor>> = head
            .parameters_mut()
            .iter_mut()
            .zip(gradients)
            .zip(self.first.iter_mut().zip(&mut self.second))
            .zip(&self.rules)
            .map(|(((parameter, gradient), (first_moment, second_moment)), &rule)| AdamSlot {
                parameter: &mut parameter.value,
                gradient: gradient.as_ref().unwrap_or_else(|| {
                    unreachable!("every parameter is on the tape, so each has a gradient")
                }),
                first_moment,
                second_moment,
                rule,
            })
            .collect();
        backend.adam(&mut slots, schedule)
    }

    /// Copies the moments to the host as `first.NAME` and `second.NAME`.
    pub fn save(&self, backend: &B, head: &Head<B>, into: &mut NamedTensors<B::Scalar>) -> Result<()> {
        for (prefix, moments) in [("first", &self.first), ("second", &self.second)] {
            for (parameter, moment) in head.parameters().iter().zip(moments) {
                into.insert(format!("{prefix}.{}", parameter.name), backend.download(moment)?);
            }
        }
        Ok(())
    }

    /// Takes over the moments that [`Optimizer::save`] wrote.
    pub fn restore(&mut self, backend: &B, head: &Head<B>, from: &NamedTensors<B::Scalar>) -> Result<()> {
        for (prefix, moments) in [("first", &mut self.first), ("second", &mut self.second)] {
            for (parameter, moment) in head.parameters().iter().zip(moments) {
                *moment = backend.upload(&from[&format!("{prefix}.{}", parameter.name)])?;
            }
        }
        Ok(())
    }
}
