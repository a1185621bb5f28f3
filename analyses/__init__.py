"""One runnable module for each question, ``python -m analyses.NAME``; none of it is part of ``stability``.

lab       what the analyses share: rows, words and pictures, points of E with their spectra, training near E
paper     the paper's figures, tables and statements: dimensions, figure1, groups, propositions, rotation
studies   of our own: augmentation, bench, dynamics, optimisers, penalty, restricted, stability_map, starts, workers
replays   claims of other papers, on their data where it is public
examples  worked examples of the documentation
signs     problems with known answers, to fool the verdicts
all       every result on one page
"""
