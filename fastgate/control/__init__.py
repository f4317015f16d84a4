"""The control process: health, metrics, configuration reload."""
