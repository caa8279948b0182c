"""The one place that holds the version; the build hook gives it to the guest and the launcher too."""

__version__ = "0.1.0"
