"""The statements of the paper, measured: every lemma, proposition and corollary at three kinds of points."""
