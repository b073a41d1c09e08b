"""EDM and Flow: paths simple enough to write every derived quantity down."""

import pytest
import torch
from oracles import f64

from undrift.process import EDM, Flow


def test_edm_is_its_own_noise_level():
    t = f64([0.002, 0.3, 7.0, 80.0])
    f, g2 = EDM().drift_diffusion(t)
    torch.testing.assert_close(f, torch.zeros_like(t))
    torch.testing.assert_close(g2, 2 * t, rtol=1e-14, atol=0)
    torch.testing.assert_close(EDM().half_log_snr(t), -t.log(), rtol=1e-14, atol=1e-15)


def test_flow_velocity_is_noise_minus_data():
    """The deterministic bridge over dt moves by dt (eps - z_0): straight lines at constant speed."""
    z0, eps = torch.randn(2, 3, 4, dtype=torch.float64)
    flow, t, s = Flow(), f64(0.8), f64(0.3)
    z = flow.marginal(z0, t, eps)
    torch.testing.assert_close(flow.bridge(z, z0, t, s), z + (s - t) * (eps - z0), rtol=1e-13, atol=1e-13)


def test_flow_drift_and_diffusion():
    t = f64([0.001, 0.25, 0.9])
    f, g2 = Flow().drift_diffusion(t)
    torch.testing.assert_close(f, -1 / (1 - t), rtol=1e-13, atol=0)
    torch.testing.assert_close(g2, 2 * t / (1 - t), rtol=1e-13, atol=0)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, lambda lam: 1 + 0 * lam])
def test_flow_from_pure_noise(tau):
    """At t = 1 alpha is 0 and lambda -infinity: the noise carries on (tau = 0) or is drawn afresh."""
    z, z0, eps = torch.randn(3, 2, 5, dtype=torch.float64)
    out = Flow().bridge(z, z0, f64(1.0), f64(0.6), tau, eps)
    torch.testing.assert_close(out, 0.4 * z0 + 0.6 * (z if tau == 0.0 else eps), rtol=1e-15, atol=1e-15)
