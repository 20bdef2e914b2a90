//! A reverse-mode autograd that records the head alone.
//!
//! A [`Tape`] is a list of operations in the order they ran, with the tensors their gradients need. Going through it
//! backwards, each operation turns the gradient of its output into gradients of its inputs. It knows no device: every
//! computation is a [`Backend`] call.
//!
//! Gradients stop at the backbone by construction: features enter as [`Tape::constant`], a constant needs no
//! gradient, and an operation computes no gradient that nobody needs. The first linear layer therefore never pays
//! for the gradient of its input.

use crate::backend::{Backend, BatchNormConstants, BatchNormSaved, BatchNormState, Loss, Noise, Result};

/// A tensor on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable(usize);

/// What was computed, from which variables, and what its gradient needs besides them.
enum Operation<T> {
    Constant,
    Parameter { index: usize },
    Linear { input: Variable, weight: Variable, bias: Option<Variable> },
    AddNoise { input: Variable },
    BatchNorm { input: Variable, gamma: Variable, beta: Variable, saved: BatchNormSaved<T> },
    LeakyRelu { input: Variable, slope: f64 },
    Score { input: Variable, weight: Variable },
}

/// Parameters are lent to the tape, everything else is its own.
enum Value<'a, T> {
    Lent(&'a T),
    Owned(T),
}

impl<T> Value<'_, T> {
    fn get(&self) -> &T {
        match self {
            Value::Lent(value) => value,
            Value::Owned(value) => value,
        }
    }
}

struct Node<'a, T> {
    operation: Operation<T>,
    value: Value<'a, T>,
    needs_gradient: bool,
}

/// The record of one forward pass.
pub struct Tape<'a, B: Backend> {
    backend: &'a B,
    nodes: Vec<Node<'a, B::Tensor>>,
}

impl<'a, B: Backend> Tape<'a, B> {
    /// An empty record.
    pub fn new(backend: &'a B) -> Self {
        Self { backend, nodes: Vec::new() }
    }

    /// The tensor a variable stands for.
    pub fn value(&self, variable: Variable) -> &B::Tensor {
        self.nodes[variable.0].value.get()
    }

    /// A tensor that is given: no gradient ever reaches it.
    pub fn constant(&mut self, value: B::Tensor) -> Variable {
        self.push(Operation::Constant, Value::Owned(value), false)
    }

    /// Parameter number `index`, whose gradient [`Tape::backward`] returns in that place.
    pub fn parameter(&mut self, index: usize, value: &'a B::Tensor) -> Variable {
        self.push(Operation::Parameter { index }, Value::Lent(value), true)
    }

    /// Records [`Backend::linear`].
    pub fn linear(&mut self, input: Variable, weight: Variable, bias: Option<Variable>) -> Result<Variable> {
        let bias_value = bias.map(|bias| self.value(bias));
        let value = self.backend.linear(self.value(input), self.value(weight), bias_value)?;
        Ok(self.record(Operation::Linear { input, weight, bias }, value))
    }

    /// Records [`Backend::add_noise`].
    pub fn add_noise(&mut self, input: Variable, noise: Noise<'_, B::Schedule>) -> Result<Variable> {
        let value = self.backend.add_noise(self.value(input), noise)?;
        Ok(self.record(Operation::AddNoise { input }, value))
    }

    /// Records [`Backend::batch_norm`], which also moves the running statistics.
    pub fn batch_norm(
        &mut self,
        input: Variable,
        gamma: Variable,
        beta: Variable,
        running_mean: &mut B::Tensor,
        running_var: &mut B::Tensor,
        constants: BatchNormConstants,
    ) -> Result<Variable> {
        let state =
            BatchNormState { gamma: self.value(gamma), beta: self.value(beta), running_mean, running_var };
        let (value, saved) = self.backend.batch_norm(self.value(input), state, constants)?;
        Ok(self.record(Operation::BatchNorm { input, gamma, beta, saved }, value))
    }

    /// Records [`Backend::leaky_relu`].
    pub fn leaky_relu(&mut self, input: Variable, slope: f64) -> Result<Variable> {
        let value = self.backend.leaky_relu(self.value(input), slope)?;
        Ok(self.record(Operation::LeakyRelu { input, slope }, value))
    }

    /// Records [`Backend::score`].
    pub fn score(&mut self, input: Variable, weight: Variable) -> Result<Variable> {
        let value = self.backend.score(self.value(input), self.value(weight))?;
        Ok(self.record(Operation::Score { input, weight }, value))
    }

    /// The loss of `scores`, added to `totals`, and its gradient with respect to them: where a backward pass starts.
    pub fn loss(
        &self,
        scores: Variable,
        loss: Loss,
        images: usize,
        totals: &mut B::Tensor,
    ) -> Result<B::Tensor> {
        self.backend.loss(self.value(scores), loss, images, totals)
    }

    /// Gradients of every parameter, given the gradient of the tape's last variable. Consumes the tape: what a node
    /// saved is dropped as soon as it was used.
    ///
    /// The result holds a tensor at the index of each parameter on the tape.
    pub fn backward(mut self, output: Variable, gradient: B::Tensor) -> Result<Vec<Option<B::Tensor>>> {
        assert_eq!(output.0 + 1, self.nodes.len(), "backward starts at the last variable");
        let mut pending: Vec<Option<B::Tensor>> = Vec::new();
        pending.resize_with(self.nodes.len(), || None);
        pending[output.0] = Some(gradient);
        let mut parameters: Vec<Option<B::Tensor>> = Vec::new();

        while let Some(node) = self.nodes.pop() {
            let Some(gradient) = pending[self.nodes.len()].take() else { continue };
            assert!(
                node.needs_gradient,
                "a gradient never reaches a constant, such as the backbone's features"
            );
            match node.operation {
                Operation::Constant => unreachable!("a constant needs no gradient"),
                Operation::Parameter { index } => {
                    if parameters.len() <= index {
                        parameters.resize_with(index + 1, || None);
                    }
                    parameters[index] = Some(gradient);
                }
                Operation::Linear { input, weight, bias } => {
                    let backend = self.backend;
                    if let Some(bias) = bias {
                        self.send(&mut pending, bias, || backend.column_sums(&gradient))?;
                    }
                    self.send(&mut pending, weight, || {
                        backend.linear_grad_weight(&gradient, self.value(input))
                    })?;
                    // Behind [q ; q + ε] both halves lead back to q. Adding their gradients before the product
                    // instead of after it halves the product.
                    if let Operation::AddNoise { input: source } = self.nodes[input.0].operation {
                        self.send(&mut pending, source, || {
                            let joined = backend.add_noise_backward(&gradient)?;
                            backend.linear_grad_input(&joined, self.value(weight))
                        })?;
                    } else {
                        self.send(&mut pending, input, || {
                            backend.linear_grad_input(&gradient, self.value(weight))
                        })?;
                    }
                }
                Operation::AddNoise { input } => {
                    self.send(&mut pending, input, || self.backend.add_noise_backward(&gradient))?;
                }
                Operation::BatchNorm { input, gamma, beta, saved } => {
                    let (grad_input, grad_gamma, grad_beta) = self.backend.batch_norm_backward(
                        &gradient,
                        self.value(input),
                        self.value(gamma),
                        &saved,
                    )?;
                    self.send(&mut pending, input, || Ok(grad_input))?;
                    self.send(&mut pending, gamma, || Ok(grad_gamma))?;
                    self.send(&mut pending, beta, || Ok(grad_beta))?;
                }
                Operation::LeakyRelu { input, slope } => {
                    self.send(&mut pending, input, || {
                        self.backend.leaky_relu_backward(&gradient, self.value(input), slope)
                    })?;
                }
                Operation::Score { input, weight } => {
                    let (grad_input, grad_weight) =
                        self.backend.score_backward(&gradient, self.value(input), self.value(weight))?;
                    self.send(&mut pending, input, || Ok(grad_input))?;
                    self.send(&mut pending, weight, || Ok(grad_weight))?;
                }
            }
        }
        Ok(parameters)
    }

    /// Stores the gradient of a variable, computing it only if somebody needs it.
    fn send(
        &self,
        pending: &mut [Option<B::Tensor>],
        variable: Variable,
        gradient: impl FnOnce() -> Result<B::Tensor>,
    ) -> Result<()> {
        if self.nodes[variable.0].needs_gradient {
            // The head is a chain: no variable is read by two operations, so there is nothing to add up.
            assert!(pending[variable.0].is_none(), "each variable feeds one operation");
            pending[variable.0] = Some(gradient()?);
        }
        Ok(())
    }

    fn record(&mut self, operation: Operation<B::Tensor>, value: B::Tensor) -> Variable {
        let inputs: &[Option<Variable>] = &match &operation {
            Operation::Constant | Operation::Parameter { .. } => [None, None, None],
            Operation::Linear { input, weight, bias } => [Some(*input), Some(*weight), *bias],
            Operation::AddNoise { input } | Operation::LeakyRelu { input, .. } => [Some(*input), None, None],
            Operation::BatchNorm { input, gamma, beta, .. } => [Some(*input), Some(*gamma), Some(*beta)],
            Operation::Score { input, weight } => [Some(*input), Some(*weight), None],
        };
        let needs_gradient = inputs.iter().flatten().any(|input| self.nodes[input.0].needs_gradient);
        self.push(operation, Value::Owned(value), needs_gradient)
    }

    fn push(
        &mut self,
        operation: Operation<B::Tensor>,
        value: Value<'a, B::Tensor>,
        needs: bool,
    ) -> Variable {
        self.nodes.push(Node { operation, value, needs_gradient: needs });
        Variable(self.nodes.len() - 1)
    }
}
