"""Backbones and feature maps: the only room that runs a network."""
