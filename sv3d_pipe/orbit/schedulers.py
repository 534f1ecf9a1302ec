"""How noise is taken away: SV3D's own Euler steps, and a solver of second order that needs fewer."""

from __future__ import annotations

from diffusers import EDMDPMSolverMultistepScheduler, EulerDiscreteScheduler

SOLVERS = ("euler", "dpm")


def euler_scheduler() -> EulerDiscreteScheduler:
    """EDM Euler sampling from sigma 700 to 0.002 (rho 7), velocity prediction, timestep ln(sigma) / 4."""
    return EulerDiscreteScheduler(
        prediction_type="v_prediction",
        timestep_type="continuous",
        timestep_spacing="leading",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
    )


def dpm_scheduler(euler: EulerDiscreteScheduler) -> EDMDPMSolverMultistepScheduler:
    """DPM-Solver++ 2M (arXiv 2211.01095, algorithm 2) from the highest to the lowest noise of ``euler``.

    Its steps are even in ln(sigma), the variable in which it extrapolates: with Euler's spacing (rho 7)
    the same number of steps ended two to three times as far from the exact solution (mini).
    """
    return EDMDPMSolverMultistepScheduler(
        prediction_type="v_prediction",
        sigma_min=euler.config.sigma_min,
        sigma_max=euler.config.sigma_max,
        sigma_data=1.0,
        sigma_schedule="exponential",
        solver_order=2,
    )
