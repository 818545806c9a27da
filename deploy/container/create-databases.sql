-- Run by the PostgreSQL image when its volume is empty.
CREATE DATABASE registry;
CREATE DATABASE dagster;
CREATE DATABASE catalog;
