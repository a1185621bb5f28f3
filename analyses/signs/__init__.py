r"""Can the tool be fooled? A thousand and more random problems whose answer is known, built to sit next to zero.

    python -m analyses.signs --each 100

Every problem is built from its answer. L is split into irreducible subspaces of a random invariant matrix, each gets a
curvature, and R is a sum over samples whose group average has exactly these; cubic terms, gradients in E⊥, kinks,
cancelling samples are added so that the answer stays known:

    near        ±1e-8 on E and on E⊥, everything else of order 0.1 to 100
    clustered   whole clusters around ±1e-8, or straddling zero in steps of 1e-9, next to curvatures up to 1e3
    degenerate  exact zeros, alone or beside ±1e-8
    moved       the point given is off by so much that the sign there is not that of the stationary point
    flat        gradients below the tolerance where no stationary point is near (εt + ct³)
    kink        κ|t| through the point, κ of either sign
    float32     ``near`` in single precision; the answer is that of the rounded data
    cancelling  pairs of samples of curvature ±10³ … ±10⁹ that cancel
    hand        a quadratic network by hand: ∇²R^aug = 2k on E, ±10⁻ⁿ on E⊥
    network     tanh networks with a term that shifts λ_min to ±1e-8, the answer by brute force
    leaky       leaky ReLU networks with a sample that sits on every kink
    krylov      200 to 400 dimensions that only Lanczos sees, clusters at the end that decides
    hinge, signed, corner, power, masked, beside, inside, sharp           see :mod:`analyses.signs.kinks`
    grouped, normed, attending, layered, tied                             see :mod:`analyses.signs.modules`
    flips       Z_2^k by more generators than it needs, on matrices
    finite      binary polyhedral, dicyclic and reflection groups in turned bases
    skewed      tori by bases of condition up to 1e5 and sizes from 1e-12 to 1e12
    high        SO(2), O(2), SO(3) on harmonics of degree up to 150, 150, 9

A verdict is *right*, *undecided* (or refused as not stationary) or *wrong*. Rows are kept in DIR/signs.json.
"""
