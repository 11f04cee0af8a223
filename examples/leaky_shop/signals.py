"""Signals of the shop. They live as long as the process, and so does whoever they hold."""

from blinker import Signal

order_shipped = Signal("An order left the house; sent with its number as ``shipped``.")
