"""Pages of the manual that are made of types, plug-ins and site files when it is built; `mkdocs.yml` names `manual/pages.py`."""
