"""`dvc plots show` without a network: a template page that holds the Vega bundle instead of a link to a CDN.

`.dvc/config` names the page as `plots.html_template = plots/page.html`; `make setup` writes it. It
depends only on the installed vl-convert, so git ignores it.
"""

from pathlib import Path

from adshift.runtime.files import output

PAGE = Path(".dvc/plots/page.html")

# DVC replaces {refresh_tag} and {plot_divs}; it would put its CDN links at {scripts}, which is left out.
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>adshift plots</title>
{refresh_tag}
<style>
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; }
body > div { margin-bottom: 2.5rem; overflow-x: auto; }
img { max-width: 100%; }
</style>
<script>BUNDLE</script>
</head>
<body>
<h1>adshift plots</h1>
{plot_divs}
</body>
</html>
"""


def page() -> str:
    """The page. Its script is inline, and it loads no external address.

    Raises:
        ValueError: the bundle holds text that HTML or DVC would interpret.
    """
    import vl_convert

    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub is wrong
    for text in ("</script", "<!--", "{scripts}", "{plot_divs}", "{refresh_tag}"):
        if text in bundle:
            raise ValueError(f"the Vega bundle holds {text!r}")
    return _TEMPLATE.replace("BUNDLE", bundle)


def install() -> None:
    """Write the page."""
    with output(PAGE) as path:
        path.write_text(page(), encoding="utf-8")
