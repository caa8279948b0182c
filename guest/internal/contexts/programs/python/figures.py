"""Figures of matplotlib: what pyplot holds is shown. Nothing is imported that the code did not import."""


def figure_png(value):
    figure = sys.modules.get("matplotlib.figure")
    kind = getattr(figure, "Figure", None)
    if not isinstance(kind, type) or not isinstance(value, kind):
        return None
    try:
        shown = io.BytesIO()
        value.savefig(shown, format="png", bbox_inches="tight")
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None:
            pyplot.close(value)
        return shown.getvalue()
    except Exception:
        return None


def show_figures(*arguments, **settings):
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        display(figure)
        pyplot.close(figure)


def adapt_pyplot(module):
    try:
        if module.get_backend().lower() == "agg":
            module.show = show_figures
    except Exception:
        pass
