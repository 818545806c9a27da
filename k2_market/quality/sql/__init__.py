"""SQL statements, one a file, run by ``k2_market.quality.statements`` with bound parameters.

Each names the Arrow tables that it reads and the columns that it makes. Statements that ask a catalog or a
server for anything do not belong here.
"""
