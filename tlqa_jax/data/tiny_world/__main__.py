"""Writes the files of data/: `python -m tlqa_jax.data.tiny_world --out data [--seed 0]`."""

import argparse

from tlqa_jax.data.tiny_world.files import World, write_files


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tlqa_jax.data.tiny_world", description=__doc__)
    parser.add_argument("--out", required=True, help="folder to write into; files of the same names are replaced")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another world (default: 0, the bundled)")
    arguments = parser.parse_args()
    for name, size in write_files(arguments.out, World(arguments.seed)).items():
        print(f"{size:9,} bytes  {name}")


if __name__ == "__main__":
    main()
