"""Where the original files of the data sets are: address, size, checksum, and the licence to show before they are got.

Checksums are those that somebody published: TensorFlow Datasets for MNIST, Moving MNIST and BAIR, Zenodo for RAVDESS.
Those of Sprites are of the copy that its 11,664 sequences were checked on. For Weizmann none is published.
"""

from __future__ import annotations

from dataclasses import dataclass

_MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
_MNIST = (
    ("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
_SPRITES = "https://raw.githubusercontent.com/YingzhenLi/Sprites/3ce4048c5227802bd8f1888e293fd3afdba91c0c/"
_SHEETS = (
    ("body/0.png", 33734, "27d1ac78db37c42f35a20d15c42705efc5e58d47c236cc01423879d4f797f151"),
    ("body/1.png", 32036, "1535e9228357b884df80f777a0d1dac10ac35e550e4d8d077105ccad014a1460"),
    ("body/2.png", 33247, "7c241033b4897501cb3721b6c3a9ebfa94b13db10a539edbd9bcc3e0c2a4bcb9"),
    ("body/3.png", 33232, "055f5aa33fc112d8444b42fce2cf50608a9fbbf2466c54ceaa46c777589a717a"),
    ("body/4.png", 33226, "57f3b9c510482379aba9a32fc0de7d48e9cbe3dc40f2447283547f773b77ca72"),
    ("body/5.png", 31114, "91e49453aeab5ebbb4fd2b48253812895dcfb4cb1829b84e24425c66de8f04ff"),
    ("bottomwear/0.png", 7581, "4ec356c488e272fde2d2d0d722b12a80217871e41161d43ba784caf243969ec2"),
    ("bottomwear/1.png", 8304, "0674312eaa4ab548f8bb31ef95d7dbd46b41555758cec51bd6c3e9fac9a0f936"),
    ("bottomwear/2.png", 7585, "3b464feb0d20ff34b0ca2a6d1fd00766ad86e2229c3d56ff91379fe27588a893"),
    ("bottomwear/3.png", 8227, "b366e84ea0519d06cf693f51e0ee2f9ac32b3132d27c75dfdc4b6f52fca072de"),
    ("bottomwear/4.png", 8322, "4ed7e7702e4f50b9692c0043be04b7296a108d85ea97230fb50d13c150d98771"),
    ("bottomwear/5.png", 5375, "a5c5e7e33f13fe5ad37b5836a5a74fb0d2094a0877c2146961b88688ff85840d"),
    ("topwear/0.png", 15643, "b917edcf2b3c35d51ef57a6fad67557c5edf048785bea29db09a640d09ac9a90"),
    ("topwear/1.png", 15643, "e33c6cb31ed1268a2c0dc73b665b1c9b9420e22baf3321880222bdb22682368b"),
    ("topwear/2.png", 15643, "2b9b8fefa08894b7ea536cd62b86d494aefe6e54495c5c1d83460827b13b6448"),
    ("topwear/3.png", 10561, "807f5b628592f6747e2814be9435963069dba6c360577168c02f57bbe903433d"),
    ("topwear/4.png", 10940, "b51b17878503877e179ce4f9231713bf2b2d2d666c3ec9ee29f4e784469867a2"),
    ("topwear/5.png", 25293, "1b6049d43f83ebfda857cc405d1936ac9fd80be480fa6ad239024a6a75ad0372"),
    ("hair/0.png", 8049, "e4007b0635a239ad16cdebfe90759349ccc73dfc6836c9d19625714be185f43d"),
    ("hair/1.png", 8751, "fa6369f84d3310705df6d8ca8c9d515a7d211e73d2826c50a9cb5bb285652c66"),
    ("hair/2.png", 8360, "1b8046752be7233e829ebe9b11048e171d8d181ee6f68e07042b34f57bb8af0d"),
    ("hair/3.png", 8337, "333783285c5fd94ff434ae5000d2da39aac7940269f173119eaa70d34c8acfa1"),
    ("hair/4.png", 7363, "24df8e9b291cbd444f6c4d12d35b3d43d909cd13f04e6401e0fd8ab10216d5a2"),
    ("hair/5.png", 8236, "4dd471cc20e0b1cf71adcaab01c88598767e5cfe680adacdf560ca91574f17ae"),
    ("shoes/1.png", 5504, "d56a561616a20a12030d2d40a52eeec63e6d048871bf3b6994221869362151f1"),
)
_WEIZMANN = "https://www.wisdom.weizmann.ac.il/~vision/VideoAnalysis/Demos/SpaceTimeActions/DB/"
_WEIZMANN_ACTIONS = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")


@dataclass(frozen=True)
class OriginFile:
    """One file of a data set.

    Attributes:
        path: where it belongs under the root.
        urls: where it can be had, the preferred first.
        size: published size in bytes; None if not known.
        sha256, md5: published checksums, hex digits; None where there is none.
        unpacks: it is an archive, to be unpacked into the root and then deleted.
        extra: it is got only if asked for.
    """

    path: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    unpacks: bool = False
    extra: bool = False


@dataclass(frozen=True)
class ZenodoFiles:
    """Archives of a Zenodo record, which says their sizes and md5 when it is asked.

    Attributes:
        record: address of the record in Zenodo's API.
        pattern: regular expression that the names of the files match.
    """

    record: str
    pattern: str


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from.

    Attributes:
        licence: terms of use, shown before anything is downloaded.
        page: a page for people, where the files can be had by hand.
        files: all of them, or where the list is.
    """

    licence: str
    page: str
    files: tuple[OriginFile, ...] | ZenodoFiles


ORIGINS: dict[str, Origin] = {
    "moving-mnist": Origin(
        licence="MNIST: CC BY-SA 3.0, Yann LeCun and Corinna Cortes; none is stated for the published test sequences",
        page="https://github.com/cvdfoundation/mnist",
        files=(
            *(
                OriginFile(name, tuple(mirror + name for mirror in _MNIST_MIRRORS), size, sha256)
                for name, size, sha256 in _MNIST
            ),
            OriginFile(
                "mnist_test_seq.npy",
                ("http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy",),
                819200096,
                "c2a3e8d3939c001ab77bf543f130157424efa486bb4d0974d2cebb773b13f8b3",
                extra=True,
            ),
        ),
    ),
    "sprites": Origin(
        licence="CC-BY-SA 3.0 or GPL 3.0, by the artists of the Liberated Pixel Cup (lpc.opengameart.org)",
        page="https://github.com/YingzhenLi/Sprites",
        files=tuple(OriginFile(path, (_SPRITES + path,), size, sha256) for path, size, sha256 in _SHEETS),
    ),
    "bair": Origin(
        licence="none stated by its authors; take it as for research only",
        page="https://sites.google.com/view/sna-visual-mpc",
        files=(
            OriginFile(
                "bair_robot_pushing_dataset_v0.tar",
                ("http://rail.eecs.berkeley.edu/datasets/bair_robot_pushing_dataset_v0.tar",),
                32274964480,
                "c6f8d164ab2be07174ef597e3e070d7466f3142caddc467b6af119b9458cd9cd",
                unpacks=True,
            ),
        ),
    ),
    "weizmann": Origin(
        licence="none stated; for research",
        page="https://www.wisdom.weizmann.ac.il/~vision/SpaceTimeActions.html",
        files=tuple(
            OriginFile(f"{action}.zip", (f"{_WEIZMANN}{action}.zip",), unpacks=True) for action in _WEIZMANN_ACTIONS
        ),
    ),
    "ravdess": Origin(
        licence="CC BY-NC-SA 4.0: not for commercial use; Livingstone and Russo",
        page="https://zenodo.org/records/1188976",
        files=ZenodoFiles("https://zenodo.org/api/records/1188976", r"Video_Speech_Actor_\d\d\.zip"),
    ),
}
