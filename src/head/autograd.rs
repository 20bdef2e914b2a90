//! A reverse-mode autograd that records the head alone.
//!
//! A [`Tape`] is a list of operations in the order they ran, with the tensors their gradients need. Going through it
//! backwards, each operation turns the gradient of its output into gradients of its inputs. It knows no device: every
//! computation is a [`Backend`] call.
//!
//! Gradients stop at the backbone by construction: features and noise enter as [`Tape::constant`], a constant needs no
//! gradient, and an operation computes no gradient that nobody needs. The first linear layer therefore never pays
//! for the gradient of its input. Where several operations read a variable, its gradients are added up.

use crate::backend::{
    Backend, BatchNormConstants, BatchNormSaved, BatchNormScore, DeviceTensor, Loss, Result,
    RunningStatistics,
};

/// A tensor on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable(usize);

/// What was computed, from which variables, and what its gradient needs besides them.
enum Operation<T> {
    Constant,
    Parameter { index: usize },
    Linear { input: Variable, weight: Variable, bias: Option<Variable> },
    Compose { outer: Variable, inner: Variable },
    LeakyRelu { input: Variable, slope: f64 },
    BatchNormScore { inputs: ScoreInputs<Variable>, slope: f64, saved: BatchNormSaved<T> },
}

/// What [`Backend::batch_norm_score`] reads.
#[derive(Clone, Copy, Debug)]
pub struct ScoreInputs<V> {
    /// Hidden features of q.
    pub hidden: V,
    /// What noise adds to them.
    pub shift: V,
    /// The hidden layer's bias.
    pub bias: V,
    /// The BatchNorm's scale.
    pub gamma: V,
    /// The BatchNorm's shift.
    pub beta: V,
    /// The last layer's weight.
    pub weight: V,
}

impl<V> ScoreInputs<V> {
    fn map<W>(self, f: impl Fn(V) -> W) -> ScoreInputs<W> {
        ScoreInputs {
            hidden: f(self.hidden),
            shift: f(self.shift),
            bias: f(self.bias),
            gamma: f(self.gamma),
            beta: f(self.beta),
            weight: f(self.weight),
        }
    }
}

impl<T> ScoreInputs<&T> {
    fn layers(&self, slope: f64) -> BatchNormScore<'_, T> {
        let ScoreInputs { bias, gamma, beta, weight, .. } = *self;
        BatchNormScore { bias, gamma, beta, weight, slope, constants: BatchNormConstants::default() }
    }
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

    /// Records `outer·inner`, the weight of two linear layers, one behind the other: `[O, H], [H, I] → [O, I]`.
    pub fn compose(&mut self, outer: Variable, inner: Variable) -> Result<Variable> {
        let value = self.backend.linear_grad_input(self.value(outer), self.value(inner))?;
        Ok(self.record(Operation::Compose { outer, inner }, value))
    }

    /// Records [`Backend::leaky_relu`].
    pub fn leaky_relu(&mut self, input: Variable, slope: f64) -> Result<Variable> {
        let value = self.backend.leaky_relu(self.value(input), slope)?;
        Ok(self.record(Operation::LeakyRelu { input, slope }, value))
    }

    /// Records [`Backend::batch_norm_score`], which also moves the running statistics.
    pub fn batch_norm_score(
        &mut self,
        inputs: ScoreInputs<Variable>,
        slope: f64,
        running: RunningStatistics<'_, B::Tensor>,
    ) -> Result<Variable> {
        let values = inputs.map(|variable| self.value(variable));
        let (value, saved) =
            self.backend.batch_norm_score(values.hidden, values.shift, &values.layers(slope), running)?;
        Ok(self.record(Operation::BatchNormScore { inputs, slope, saved }, value))
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
                    self.send(&mut pending, weight, || {
                        self.backend.linear_grad_weight(&gradient, self.value(input))
                    })?;
                    self.send(&mut pending, input, || {
                        self.backend.linear_grad_input(&gradient, self.value(weight))
                    })?;
                    if let Some(bias) = bias {
                        let one_row = gradient.shape().len() == 1;
                        self.send(&mut pending, bias, || {
                            if one_row { Ok(gradient) } else { self.backend.column_sums(&gradient) }
                        })?;
                    }
                }
                Operation::Compose { outer, inner } => {
                    self.send(&mut pending, outer, || {
                        self.backend.linear(&gradient, self.value(inner), None)
                    })?;
                    self.send(&mut pending, inner, || {
                        self.backend.linear_grad_weight(self.value(outer), &gradient)
                    })?;
                }
                Operation::LeakyRelu { input, slope } => {
                    self.send(&mut pending, input, || {
                        self.backend.leaky_relu_backward(&gradient, self.value(input), slope)
                    })?;
                }
                Operation::BatchNormScore { inputs, slope, saved } => {
                    let values = inputs.map(|variable| self.value(variable));
                    let gradients = self.backend.batch_norm_score_backward(
                        &gradient,
                        values.hidden,
                        values.shift,
                        &values.layers(slope),
                        &saved,
                    )?;
                    for (variable, gradient) in [
                        (inputs.hidden, gradients.hidden),
                        (inputs.shift, gradients.shift),
                        (inputs.bias, gradients.bias),
                        (inputs.gamma, gradients.gamma),
                        (inputs.beta, gradients.beta),
                        (inputs.weight, gradients.weight),
                    ] {
                        self.send(&mut pending, variable, || Ok(gradient))?;
                    }
                }
            }
        }
        Ok(parameters)
    }

    /// Adds to the gradient of a variable, computing what is added only if somebody needs it.
    fn send(
        &self,
        pending: &mut [Option<B::Tensor>],
        variable: Variable,
        gradient: impl FnOnce() -> Result<B::Tensor>,
    ) -> Result<()> {
        if self.nodes[variable.0].needs_gradient {
            let gradient = gradient()?;
            match &mut pending[variable.0] {
                Some(sum) => self.backend.add(sum, &gradient)?,
                none => *none = Some(gradient),
            }
        }
        Ok(())
    }

    fn record(&mut self, operation: Operation<B::Tensor>, value: B::Tensor) -> Variable {
        let inputs: &[Variable] = match &operation {
            Operation::Constant | Operation::Parameter { .. } => &[],
            Operation::Linear { input, weight, bias: None } => &[*input, *weight],
            Operation::Linear { input, weight, bias: Some(bias) } => &[*input, *weight, *bias],
            Operation::Compose { outer, inner } => &[*outer, *inner],
            Operation::LeakyRelu { input, .. } => &[*input],
            Operation::BatchNormScore {
                inputs: ScoreInputs { hidden, shift, bias, gamma, beta, weight },
                ..
            } => &[*hidden, *shift, *bias, *gamma, *beta, *weight],
        };
        let needs_gradient = inputs.iter().any(|input| self.nodes[input.0].needs_gradient);
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
