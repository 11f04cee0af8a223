"""Signals of the shop. They live as long as the process, and so does everything they hold."""

from blinker import Signal

order_shipped = Signal("An order was shipped; sent with its number as ``shipped``.")
