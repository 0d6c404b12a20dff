"""Computers with lines between them, on one machine: network namespaces around a switch that is slow, far and loses packets."""
