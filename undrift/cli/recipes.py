"""Where recipes are looked for by name: ./recipes, and the recipes of the source tree that this package lies in."""

from pathlib import Path

__all__ = ["find_recipe", "known_recipes"]

HOMES = (Path("recipes"), Path(__file__).parents[2] / "recipes")


def known_recipes() -> dict[str, Path]:
    """Name -> file, the nearer home first."""
    return {file.stem: file for home in reversed(HOMES) for file in sorted(home.glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """The file that is meant; FileNotFoundError, with what there is, for none."""
    if Path(name).is_file():
        return Path(name)
    if Path(name).is_dir():
        raise FileNotFoundError(f"{name} is a folder: give the recipe, a TOML file")
    if name in known_recipes():
        return known_recipes()[name]
    there = ", ".join(known_recipes()) or "none here"
    raise FileNotFoundError(f"no recipe {name!r}: neither a file nor the name of one ({there})")
