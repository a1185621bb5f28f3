"""Remark 1: what changes when R^aug is sampled with K Haar elements instead of averaged over all of G?"""
