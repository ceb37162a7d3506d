"""The settings that nbpipe recognises in ordinary cells, and the libraries whose users each of them concerns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType

EVERY_STEP = "every step"
ANY_MODULE = "any module"
ANY_PACKAGE = "any package"
# Used by modules that are not known, such as the author's own.
_ANY_LIBRARY = "any library"

# A name is what is called or assigned to, its module written in full; `.*` stands for everything below it, `()` for the
# object that a call returns, `%` for a line magic with its first words.
SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "random.seed": ("random",),
        "random.setstate": ("random",),
        "numpy.random.seed": ("numpy",),
        "numpy.random.set_state": ("numpy",),
        "numpy.set_printoptions": ("numpy",),
        "numpy.seterr": ("numpy",),
        "numpy.seterrcall": ("numpy",),
        "numpy.setbufsize": ("numpy",),
        "pandas.set_option": ("pandas",),
        "pandas.reset_option": ("pandas",),
        "pandas.options.*": ("pandas",),
        "pandas.set_eng_float_format": ("pandas",),
        "pandas.plotting.register_matplotlib_converters": ("matplotlib",),
        "matplotlib.rcParams": ("matplotlib",),
        "matplotlib.rc": ("matplotlib",),
        "matplotlib.rc_file": ("matplotlib",),
        "matplotlib.rcdefaults": ("matplotlib",),
        "matplotlib.style.use": ("matplotlib",),
        "matplotlib.use": ("matplotlib",),
        "matplotlib.switch_backend": ("matplotlib",),
        "matplotlib.set_cmap": ("matplotlib",),
        "matplotlib.colormaps.register": ("matplotlib",),
        "matplotlib.set_loglevel": ("matplotlib",),
        "matplotlib.ion": ("matplotlib",),
        "matplotlib.ioff": ("matplotlib",),
        "matplotlib.xkcd": ("matplotlib",),
        "matplotlib.font_manager.fontManager.addfont": ("matplotlib",),
        "matplotlib_inline.backend_inline.set_matplotlib_formats": ("matplotlib",),
        "IPython.display.set_matplotlib_formats": ("matplotlib",),
        "seaborn.set": ("seaborn", "matplotlib"),
        "seaborn.set_theme": ("seaborn", "matplotlib"),
        "seaborn.set_style": ("seaborn", "matplotlib"),
        "seaborn.set_context": ("seaborn", "matplotlib"),
        "seaborn.set_palette": ("seaborn", "matplotlib"),
        "seaborn.set_color_codes": ("seaborn", "matplotlib"),
        "seaborn.objects.Plot.config.*": ("seaborn",),
        "seaborn.reset_defaults": ("seaborn", "matplotlib"),
        "seaborn.reset_orig": ("seaborn", "matplotlib"),
        "sklearn.set_config": ("sklearn",),
        "scipy.special.seterr": ("scipy",),
        "torch.manual_seed": ("torch",),
        "torch.seed": ("torch",),
        "torch.set_rng_state": ("torch",),
        "torch.random.*": ("torch",),
        "torch.cuda.manual_seed": ("torch",),
        "torch.cuda.manual_seed_all": ("torch",),
        "torch.cuda.set_device": ("torch",),
        "torch.mps.manual_seed": ("torch",),
        "torch.set_printoptions": ("torch",),
        "torch.set_default_dtype": ("torch",),
        "torch.set_default_device": ("torch",),
        "torch.set_default_tensor_type": ("torch",),
        "torch.set_num_threads": ("torch",),
        "torch.set_num_interop_threads": ("torch",),
        "torch.set_grad_enabled": ("torch",),
        "torch.set_float32_matmul_precision": ("torch",),
        "torch.set_flush_denormal": ("torch",),
        "torch.use_deterministic_algorithms": ("torch",),
        "torch.autograd.set_detect_anomaly": ("torch",),
        "torch.multiprocessing.set_sharing_strategy": ("torch",),
        "torch.hub.set_dir": ("torch",),
        "torch.backends.*": ("torch",),
        "tensorflow.random.set_seed": ("tensorflow",),
        "tensorflow.config.*": ("tensorflow",),
        "tensorflow.get_logger().setLevel": ("tensorflow",),
        "tensorflow.keras.utils.set_random_seed": ("tensorflow", "keras", "numpy", "random"),
        "tensorflow.keras.mixed_precision.set_global_policy": ("tensorflow", "keras"),
        "tensorflow.keras.backend.set_floatx": ("tensorflow", "keras"),
        "keras.utils.set_random_seed": ("tensorflow", "keras", "numpy", "random"),
        "keras.mixed_precision.set_global_policy": ("tensorflow", "keras"),
        "keras.backend.set_floatx": ("tensorflow", "keras"),
        "keras.config.*": ("keras",),
        "jax.config.*": ("jax",),
        "polars.Config.*": ("polars",),
        "polars.Config": ("polars",),
        "polars.enable_string_cache": ("polars",),
        "polars.disable_string_cache": ("polars",),
        "polars.set_random_seed": ("polars",),
        "transformers.set_seed": ("transformers", "torch", "tensorflow", "numpy", "random"),
        "transformers.logging.*": ("transformers",),
        "transformers.utils.logging.*": ("transformers",),
        "lightning.seed_everything": ("lightning", "torch", "numpy", "random"),
        "pytorch_lightning.seed_everything": ("pytorch_lightning", "torch", "numpy", "random"),
        "xarray.set_options": ("xarray",),
        "xgboost.set_config": ("xgboost",),
        "dask.config.set": ("dask",),
        "pyarrow.set_cpu_count": ("pyarrow",),
        "pyarrow.set_io_thread_count": ("pyarrow",),
        "networkx.config.*": ("networkx",),
        "optuna.logging.*": ("optuna",),
        "plotly.io.templates.*": ("plotly",),
        "plotly.io.renderers.*": ("plotly",),
        "plotly.offline.init_notebook_mode": ("plotly",),
        "altair.data_transformers.*": ("altair",),
        "altair.renderers.*": ("altair",),
        "altair.themes.*": ("altair",),
        "bokeh.io.output_notebook": ("bokeh",),
        "tqdm.tqdm.pandas": ("pandas",),
        "tqdm.auto.tqdm.pandas": ("pandas",),
        "tqdm.notebook.tqdm.pandas": ("pandas",),
        "sympy.init_printing": ("sympy",),
        "mpmath.mp.dps": ("mpmath",),
        "mpmath.mp.prec": ("mpmath",),
        "mpmath.mp.pretty": ("mpmath",),
        "PIL.Image.MAX_IMAGE_PIXELS": ("PIL",),
        "PIL.ImageFile.LOAD_TRUNCATED_IMAGES": ("PIL",),
        "cv2.setRNGSeed": ("cv2",),
        "cv2.setNumThreads": ("cv2",),
        "nltk.data.path": ("nltk",),
        "decimal.getcontext().*": ("decimal",),
        "decimal.setcontext": ("decimal",),
        "decimal.DefaultContext.*": ("decimal",),
        "csv.field_size_limit": ("csv",),
        "csv.register_dialect": ("csv", "pandas"),
        "csv.unregister_dialect": ("csv", "pandas"),
        "sqlite3.register_adapter": ("sqlite3", "pandas"),
        "sqlite3.register_converter": ("sqlite3", "pandas"),
        "mimetypes.add_type": ("mimetypes",),
        "multiprocessing.set_start_method": ("multiprocessing", "concurrent"),
        "nest_asyncio.apply": ("asyncio",),
        "warnings.filterwarnings": (ANY_MODULE,),
        "warnings.simplefilter": (ANY_MODULE,),
        "warnings.resetwarnings": (ANY_MODULE,),
        "warnings.showwarning": (ANY_MODULE,),
        "warnings.formatwarning": (ANY_MODULE,),
        "logging.basicConfig": (ANY_MODULE,),
        "logging.disable": (ANY_MODULE,),
        "logging.captureWarnings": (ANY_MODULE,),
        "logging.addLevelName": (ANY_MODULE,),
        "logging.config.dictConfig": (ANY_MODULE,),
        "logging.config.fileConfig": (ANY_MODULE,),
        "logging.root.setLevel": (ANY_MODULE,),
        "logging.getLogger().setLevel": (ANY_MODULE,),
        "logging.getLogger().addHandler": (ANY_MODULE,),
        "logging.getLogger().removeHandler": (ANY_MODULE,),
        "logging.getLogger().addFilter": (ANY_MODULE,),
        "logging.getLogger().handlers": (ANY_MODULE,),
        "logging.getLogger().propagate": (ANY_MODULE,),
        "logging.getLogger().disabled": (ANY_MODULE,),
        "os.environ": (ANY_MODULE,),
        "os.putenv": (ANY_MODULE,),
        "os.unsetenv": (ANY_MODULE,),
        "dotenv.load_dotenv": (ANY_MODULE,),
        "socket.setdefaulttimeout": (ANY_MODULE,),
        "time.tzset": (ANY_MODULE,),
        "urllib.request.install_opener": (ANY_MODULE,),
        "urllib3.disable_warnings": (ANY_PACKAGE,),
        "ssl._create_default_https_context": (ANY_MODULE,),
        "sys.path": (ANY_PACKAGE,),
        "sys.setrecursionlimit": (EVERY_STEP,),
        "sys.setswitchinterval": (EVERY_STEP,),
        "sys.set_int_max_str_digits": (EVERY_STEP,),
        "locale.setlocale": (EVERY_STEP,),
        "codecs.register_error": (EVERY_STEP,),
        "IPython.get_ipython().ast_node_interactivity": (EVERY_STEP,),
        "IPython.core.interactiveshell.InteractiveShell.*": (EVERY_STEP,),
        "%matplotlib": ("matplotlib",),
        "%config InlineBackend": ("matplotlib",),
        "%config InteractiveShell": (EVERY_STEP,),
        "%precision": (EVERY_STEP,),
        "%pprint": (EVERY_STEP,),
        "%xmode": (EVERY_STEP,),
        "%alias_magic": (EVERY_STEP,),
        "%env": (ANY_MODULE,),
        "%set_env": (ANY_MODULE,),
    }
)

# Packages that use others: with the attributes through which they do so, always if none are named.
_USES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "pandas": {
            "numpy": ("array", "sample", "to_numpy", "values"),
            "matplotlib": ("boxplot", "hist", "plot", "plotting"),
        },
        "seaborn": {"matplotlib": (), "numpy": (), "pandas": (), "scipy": ()},
        "matplotlib": {"numpy": ()},
        "scipy": {"numpy": ()},
        "sklearn": {"numpy": (), "scipy": (), "pandas": ("as_frame", "set_output"), "matplotlib": ("plot_tree",)},
        "statsmodels": {"numpy": (), "scipy": (), "pandas": (), "matplotlib": ()},
        "xgboost": {"numpy": (), "scipy": (), "sklearn": ()},
        "lightgbm": {"numpy": (), "scipy": (), "sklearn": ()},
        "torch": {"numpy": ("numpy",)},
        "torchvision": {"torch": (), "numpy": (), "random": (), "PIL": ()},
        "transformers": {"torch": (), "tensorflow": (), "numpy": (), "random": ()},
        "lightning": {"torch": (), "numpy": (), "random": ()},
        "pytorch_lightning": {"torch": (), "numpy": (), "random": ()},
        "tensorflow": {"numpy": (), "keras": ()},
        "keras": {"numpy": (), "tensorflow": (), "torch": (), "random": ()},
        "jax": {"numpy": ()},
        "polars": {"numpy": ("to_numpy",), "pandas": ("to_pandas",)},
        "pyarrow": {"numpy": ("to_numpy",), "pandas": ("to_pandas",)},
        "xarray": {"numpy": (), "pandas": (), "matplotlib": ("plot",)},
        "dask": {"numpy": (), "pandas": ()},
        "mpmath": {},
        "networkx": {"random": (), "numpy": (), "matplotlib": ("draw",)},
        "cv2": {"numpy": ()},
        "plotly": {"numpy": (), "pandas": ()},
        "altair": {"pandas": ()},
        "statistics": {"random": ("samples",), "decimal": ()},
        "IPython": {},
        "PIL": {},
        "bokeh": {"numpy": (), "pandas": ()},
        "nbpipe": {},
        "requests": {},
        "sympy": {},
        "tqdm": {},
        "yaml": {},
    }
)

# Values in these formats are of this package.
FORMAT_PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "arrow": ("pandas",),
        "feather": ("pandas",),
        "parquet": ("pandas",),
        "csv": ("pandas",),
        "npy": ("numpy",),
        "npz": ("numpy",),
        "safetensors": ("torch",),
        "json": (),
        "bin": (),
        "bytes": (),
        "text": (),
        "txt": (),
        "str": (),
    }
)

_SAME = (("matplotlib.pyplot", "matplotlib"), ("matplotlib.pylab", "matplotlib"), ("pylab", "matplotlib"))
_STANDARD = frozenset(sys.stdlib_module_names)
_IMPORTERS = frozenset({"sys", "importlib", "runpy", "pkgutil"})


def users_of(name: str, more: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the libraries whose users are concerned when ``name`` is called or changed; empty if it is no setting."""
    short = next((f"{to}{name[len(old) :]}" for old, to in _SAME if f"{name}.".startswith(f"{old}.")), name)
    names = [each for spelling in (name, short) for each in _with_patterns(spelling)]
    return next((table[each] for each in names for table in (more, SETTINGS) if each in table), ())


def _with_patterns(name: str) -> list[str]:
    parts = name.split(".")
    return [name, *(".".join([*parts[:count], "*"]) for count in range(len(parts) - 1, 0, -1))]


def libraries_used(modules: Iterable[str], identifiers: frozenset[str]) -> frozenset[str]:
    """Return the libraries that code with these imports uses, directly or through other packages.

    Modules that are not known, such as the author's own, may use any library.
    """
    used: set[str] = set()
    todo = [parent for module in modules for parent in _with_parents(module)]
    while todo:
        module = todo.pop()
        if module in used:
            continue
        used.add(module)
        top = module.partition(".")[0]
        through = _USES.get(top, {})
        todo += [base for base, names in through.items() if not names or not identifiers.isdisjoint(names)]
        if top not in _STANDARD:
            used.add(ANY_PACKAGE)
        if top not in _STANDARD and top not in _USES and top not in _FAMILIAR:
            used.add(_ANY_LIBRARY)
        if top in _IMPORTERS:
            used.add(ANY_PACKAGE)
    return frozenset(used | {ANY_MODULE}) if used else frozenset()


def concerns(users: Iterable[str], used: frozenset[str]) -> bool:
    """Return whether a setting for these users concerns code that uses these libraries."""
    return _ANY_LIBRARY in used or any(user == EVERY_STEP or user in used for user in users)


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


_FAMILIAR = frozenset(user.partition(".")[0] for users in SETTINGS.values() for user in users)
