"""The average of the weights: what it is, and that nothing is kept twice."""

from __future__ import annotations

import pytest
import torch

from robustad.training.average import WeightAverage


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


def test_it_follows_the_weights_slowly_and_the_buffers_at_once():
    trained = network()
    average = WeightAverage(trained, 0.9)
    expected = [weight.detach().clone() for weight in trained.parameters()]
    for step in range(20):
        with torch.no_grad():
            for weight in trained.parameters():
                weight += 1
        trained(torch.randn(8, 3))
        average.update(trained, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * w.detach() for e, w in zip(expected, trained.parameters(), strict=True)]
    for mean, value in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(mean, value)
        assert not mean.requires_grad
    assert not average.module.training
    for kept, buffer in zip(average.module.buffers(), trained.buffers(), strict=True):
        assert torch.equal(kept, buffer)


def test_buffers_are_shared_until_one_side_moves_and_weights_never():
    trained = network()
    average = WeightAverage(trained, 0.9)
    assert [b.data_ptr() for b in average.module.buffers()] == [b.data_ptr() for b in trained.buffers()]
    assert not {p.data_ptr() for p in average.module.parameters()} & {p.data_ptr() for p in trained.parameters()}
    apart = [buffer.clone() for buffer in average.module[1].buffers()]
    average.module[1].running_mean, average.module[1].running_var, average.module[1].num_batches_tracked = apart
    trained(torch.randn(8, 3))
    assert not torch.equal(average.module[1].running_mean, trained[1].running_mean)
    average.update(trained, 0)
    assert torch.equal(average.module[1].running_mean, trained[1].running_mean)


@pytest.mark.parametrize("decay", [0, 0.0])
def test_without_decay_it_is_the_network_itself(decay):
    trained = network()
    assert WeightAverage(trained, decay).module is trained
