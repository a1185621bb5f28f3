r"""How far training leaves E, without dense weights: gradient statistics, and sampled augmentation in Fourier space.

At A in E a mini-batch b moved by g has the gradient ρ̄(g)∇R_b(A) (Lemma 3). So a step of sampled augmentation,
K passes with a Haar element g_bk for every mini-batch of every pass, is

    on E:   Π_E ∇R(A), whatever was drawn
    on E⊥:  n = (1/K) Σ_b Σ_k ρ̄(g_bk) Π_{E⊥}∇R_b(A),   E‖n‖² = (1/K) Σ_b ‖Π_{E⊥}∇R_b(A)‖²

(:func:`gradient_statistics`). Where G is abelian ρ̄(g) is a phase in each sector η, so all K passes cost one gradient
whose mini-batches carry the weights c_b(η) = (1/K) Σ_k conj χ_η(g_bk) (:class:`NearE`). What is left out is how the
gradient changes with A_{E⊥} itself, ∇²R A_{E⊥} and beyond; :func:`feedback` measures it.

signals   what a gradient is made of, and its norms on E and off it
fourier   a vector of E⊥ of an abelian group, as phases
gathered  the same over permutation representations of any group, by indices
walks     one step of training at a time: EQUI, AUG near E, anything on dense weights
"""
