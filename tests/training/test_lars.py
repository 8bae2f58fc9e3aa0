"""LARS against its formula, step by step."""

import torch

from robustad.training.lars import LARS


def test_updates_follow_the_formula_for_weights_biases_and_zeros():
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator), torch.zeros(5)]
    parameters = [torch.nn.Parameter(value.clone()) for value in start]
    optimiser = LARS(parameters, lr=0.5, momentum=0.9, weight_decay=1e-2, trust=1e-3)
    wanted = [value.clone() for value in start]
    momenta = [torch.zeros_like(value) for value in start]
    for _ in range(3):
        gradients = [torch.randn(value.shape, generator=generator) for value in start]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimiser.step()
        for i, gradient in enumerate(gradients):
            size, slope = wanted[i].norm(), gradient.norm()
            factor = 1e-3 * size / (slope + 1e-2 * size + 1e-8) if size > 0 and slope > 0 else 1.0
            momenta[i] = 0.9 * momenta[i] + factor * (gradient + 1e-2 * wanted[i])
            wanted[i] = wanted[i] - 0.5 * momenta[i]
    for parameter, value in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.detach(), value)
