-- The shop: what an operator's own database would be. Safe to run again.
-- Replica identity FULL: deletes then carry true values, and unchanged TOAST arrives (it costs WAL: one old row per update).
CREATE TABLE IF NOT EXISTS public.users (
  user_id bigint PRIMARY KEY,
  age int NOT NULL,
  gender text NOT NULL,
  occupation text NOT NULL,
  zip_code text NOT NULL,
  country text NOT NULL,
  preferred_genre text,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS public.items (
  item_id bigint PRIMARY KEY,
  title text NOT NULL,
  release_year int,
  genres text[] NOT NULL,
  is_active boolean NOT NULL DEFAULT true,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS public.weir_signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
CREATE TABLE IF NOT EXISTS public.weir_heartbeat (id int PRIMARY KEY, ts timestamptz NOT NULL);
INSERT INTO public.weir_heartbeat VALUES (1, now()) ON CONFLICT (id) DO NOTHING;
ALTER TABLE public.users REPLICA IDENTITY FULL;
ALTER TABLE public.items REPLICA IDENTITY FULL;
