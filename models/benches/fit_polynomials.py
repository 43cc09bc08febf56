"""Prints the coefficients of src/layer/elementary.rs, with the errors of the fits.

Minimax polynomials by Lawson's iteration: least squares on Chebyshev nodes, whose weights grow where the error is large.
The errors are those of the polynomials in double precision with unrounded coefficients; what single precision makes of
them is tested in Rust.

Needs numpy and mpmath: pip install numpy mpmath
"""

import mpmath
import numpy as np

mpmath.mp.dps = 30


def fit(nodes, values, weights, degree):
    """Largest weighted error and coefficients, in a Chebyshev basis for a well-conditioned system."""
    basis = np.polynomial.chebyshev.chebvander(nodes, degree)
    importance = np.ones(len(nodes))
    best = (np.inf, None)
    for _ in range(400):
        scale = np.sqrt(importance) * weights
        coefficients = np.linalg.lstsq(basis * scale[:, None], values * scale, rcond=None)[0]
        error = np.abs((basis @ coefficients - values) * weights)
        if error.max() < best[0]:
            best = (error.max(), coefficients)
        importance *= error + 1e-30
        importance /= importance.sum()
    return best[0], np.polynomial.chebyshev.cheb2poly(best[1])


def show(name, error, coefficients):
    print(f"{name}: relative error {error:.2e}")
    for value in coefficients:
        print(f"    {np.float32(value)},")


def exponential(degree):
    """(exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2; the error is that of exp."""
    nodes = np.cos(np.linspace(0, np.pi, 2001)) * np.log(2) / 2 * 1.0005
    series = lambda r: mpmath.mpf(0.5) if abs(r) < 1e-8 else (mpmath.exp(r) - 1 - r) / mpmath.mpf(r) ** 2
    values = np.array([float(series(r)) for r in nodes])
    return fit(nodes, values, nodes**2 / np.exp(nodes) + 1e-12, degree)


def tail(offset, degree, end=11.6):
    """(a + k) exp(a^2 / 2) (1 - Phi(a)) in u = (a - k) / (a + k) for 0 <= a <= end."""
    low, high = -1.0, 1 - 2 * offset / (end + offset)
    nodes = (high - low) / 2 * np.cos(np.linspace(0, np.pi, 1201)) + (high + low) / 2
    arguments = np.maximum(2 * offset / (1 - nodes) - offset, 0)
    exact = lambda a: mpmath.erfc(a / mpmath.sqrt(2)) * mpmath.exp(mpmath.mpf(a) ** 2 / 2) / 2
    values = np.array([float((a + offset) * exact(mpmath.mpf(a))) for a in arguments])
    return fit(nodes, values, 1 / values, degree)


show("EXPONENTIAL", *exponential(4))
show("TAIL", *tail(3.0, 8))
