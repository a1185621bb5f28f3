"""What the analyses share.

rows      results kept in one JSON file as they come
publish   words, tables and pictures, written as ``analyses.all`` reads them
command   how a command reads its options and ends
ground    a point of E with every mode of ∇²R^aug
cases     points that several analyses start from
rates     rates from curves
drift     how far training leaves E, without dense weights
"""
