"""The training loop in PyTorch: autograd and `torch.optim`, in the program's own order of images and with its noise."""
import numpy as np
import torch

import model
from draws import SEED, normals, permutation

SIGMA = 0.015
# The optimisers of the two presets: (learning rate, weight decay, decoupled) of adaptor and discriminator.
RULES = {
    "paper": ((1e-4, 1e-5, False), (2e-4, 1e-5, False)),
    "official": ((1e-4, 1e-2, True), (2e-4, 1e-5, False)),
}


def noise(step, rows, channels):
    return torch.from_numpy(SIGMA * normals(SEED, step, rows * channels)).reshape(rows, channels)


def train(head, rules, features, batches, loss_kind, margins=(0.5, -0.5)):
    """Runs `batches`, lists of image numbers, one optimiser step each, on `features` `[images, rows, C]` in their type.

    Gives `[steps, 4]`: the loss; p+, the share of good rows scored above th+; p-, the share of noisy rows scored below th-; the
    smallest distance of a score from its margin."""
    optimisers, steps = model.optimizer(head, *RULES[rules]), []
    head.train()
    for step, batch in enumerate(batches):
        rows = features[batch].reshape(-1, features.shape[-1])
        loss, scores = head.loss(rows, noise(step, *rows.shape).to(rows.dtype), loss_kind, margins)
        for o in optimisers:
            o.zero_grad()
        loss.backward()
        for o in optimisers:
            o.step()
        good, bad = scores.detach().chunk(2)
        above, below = good - margins[0], margins[1] - bad
        distance = torch.cat([above, below]).abs().min()
        steps.append((loss.item(), (above > 0).double().mean().item(), (below > 0).double().mean().item(), distance.item()))
    return np.array(steps)


def epoch_batches(epochs, images, batch):
    """The batches of `epochs` passes, each in an order of its own; the last batch of a pass may be smaller."""
    orders = [permutation(SEED, epoch, images) for epoch in range(epochs)]
    return [order[i : i + batch] for order in orders for i in range(0, images, batch)]


def epoch_means(epochs, batches, steps):
    """`[epochs, 3]`: loss, p+ and p-, the means over the images of what `train` gave for the steps."""
    sizes = np.array([len(batch) for batch in batches], np.float64).reshape(epochs, -1)
    return (steps[:, :3].reshape(epochs, -1, 3) * sizes[:, :, None]).sum(1) / sizes.sum(1, keepdims=True)
