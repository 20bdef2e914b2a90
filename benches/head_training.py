"""Scope `train`: an epoch of the head in PyTorch, preset `paper`, on features that were computed before."""
import torch
import torch.nn.functional as F

import engines
import network

BATCH = 4
# What another draw of the noise may change in loss and gradient; 0.002 and 0.05 are seen, half a loss missing makes 0.5.
OTHER_NOISE = 0.25
SIGMA_NOISE = 0.015
MARGIN = 0.5
# Largest ‖out − ref‖/‖ref‖ of one step's loss and gradient of the adaptor against f64. The loss: rounding units. The gradient
# jumps where rounding puts a LeakyReLU on the other side of its kink: k of n = 6 million make √(k/n) of it, and 1.6e-3 is
# seen in f32.
TOLERANCES = {
    "f32": {"loss": 1e-5, "gradient": 1e-2},
    "tf32": {"loss": 1e-3, "gradient": 1e-1},
    "bf16": {"loss": 1e-2, "gradient": 2e-1},
}


def features(task, images, batch=BATCH):
    """f32 `[images, H0·W0, C]` of noise images, cached where the training runs."""
    found = []
    pixels = torch.from_numpy(task.images(images))
    net = network.fold_batch_norms(network.backbone(task.architecture, task.state)).to(task.device)
    normalize = network.Normalize().to(task.device)
    with torch.inference_mode(), engines.tf32(False):
        for first in range(0, images, batch):
            levels = net(normalize(pixels[first : first + batch].to(task.device)))
            found.append(network.aggregate(levels).flatten(2).transpose(1, 2).contiguous())
    return torch.cat(found).clone()


class Trainer:
    """Two Adams over one backward, as the paper's preset; the loss stays on the device within an epoch."""

    def __init__(self, cached, precision, fused=False, compiled=False, cache=None):
        torch.manual_seed(0)
        self.features, self.precision = cached, precision
        self.device = cached.device
        self.head = network.Head(cached.shape[2]).to(self.device).train()
        halves = [list(self.head.adaptor.parameters())]
        halves.append([p for layer in (self.head.hidden, self.head.norm, self.head.score) for p in layer.parameters()])
        self.optimizers = [
            torch.optim.Adam(parameters, lr=lr, weight_decay=1e-5, fused=fused or None)
            for parameters, lr in zip(halves, (1e-4, 2e-4))
        ]
        self.loss, self.compiled = self.plain_loss, compiled
        if compiled:
            self.loss = engines.compile_whole(self.loss, self.device, cache)

    def plain_loss(self, rows):
        return self.loss_with(rows, torch.randn_like(rows) * SIGMA_NOISE)

    def loss_with(self, rows, noise):
        """Eq. 8 over `[q ; q + noise]`, one forward of the discriminator for both."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            adapted = self.head.adaptor(rows)
            scores = self.head.discriminate(torch.cat([adapted, adapted + noise])).float()
        return F.relu(MARGIN - scores[: len(rows)]).mean() + F.relu(MARGIN + scores[len(rows) :]).mean()

    def epoch(self):
        """One pass in random order; returns the mean loss when the device is done."""
        order = torch.randperm(len(self.features), device=self.device)
        total = torch.zeros((), device=self.device)
        with engines.tf32(self.precision == "tf32"):
            for chosen in order.split(BATCH):
                loss = self.loss(self.features[chosen].flatten(0, 1))
                for optimizer in self.optimizers:
                    optimizer.zero_grad()
                loss.backward()
                for optimizer in self.optimizers:
                    optimizer.step()
                total += loss.detach() * len(chosen)
        return total.item() / len(self.features)


def verify(trainer):
    """Relative errors of one step's loss and adaptor gradient against f64, with the same noise and, as it is timed, with noise
    of its own. The head is left as it was."""
    rows = trainer.features[:BATCH].flatten(0, 1)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2)) * SIGMA_NOISE
    found = []
    exact = Trainer(trainer.features[:BATCH].cpu().double(), "f64")
    exact.head.load_state_dict({name: value.cpu() for name, value in trainer.head.state_dict().items()})
    exact.head.double()
    kept = {name: value.clone() for name, value in trainer.head.state_dict().items()}
    for one, loss_of in (
        (exact, lambda: exact.loss_with(rows.cpu().double(), noise.double())),
        (trainer, lambda: trainer.loss_with(rows, noise.to(rows))),
        (trainer, lambda: trainer.loss(rows)),
    ):
        with engines.tf32(one.precision == "tf32"):
            loss = loss_of()
            gradient = torch.autograd.grad(loss, one.head.adaptor.weight)[0]
        found.append((loss.detach().cpu().numpy(), gradient.cpu().numpy()))
    trainer.head.load_state_dict(kept)
    if trainer.compiled:
        engines.refuse_skipped_graphs()
    errors, drawn = (
        {key: engines.relative_error(a, b) for key, a, b in zip(("loss", "gradient"), one, found[0])} for one in found[1:]
    )
    allowed = TOLERANCES[trainer.precision]
    if not all(errors[key] <= allowed[key] and drawn[key] <= allowed[key] + OTHER_NOISE for key in allowed):
        raise ValueError(f"it computes something else: relative errors {errors}, with its own noise {drawn}, allowed {allowed}")
    return errors


# name: (options of `Trainer`, precisions on the CPU, precisions on a GPU)
ENGINES = {
    "pytorch-eager": ({}, ("f32", "bf16"), ("f32", "tf32", "bf16")),
    "pytorch-fused-adam": ({"fused": True}, ("f32", "bf16"), ("f32", "tf32", "bf16")),
    "pytorch-compile": ({"fused": True, "compiled": True}, ("f32",), ("f32", "tf32", "bf16")),
}


def build(name, cached, precision, cache):
    """The trainer, or `engines.Unavailable` with the reason."""
    options, on_cpu, on_gpu = ENGINES[name]
    if precision not in (on_gpu if cached.device.type == "cuda" else on_cpu):
        raise engines.Unavailable(f"it has no {precision} on this device")
    return Trainer(cached, precision, cache=cache, **options)
